#include "common/wsman/value.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "common/wsman/cim_xml.h"
#include "common/wsman/uris.h"
#include "common/wsman/wmi_path.h"

namespace farside::wsman {
namespace {

constexpr std::array<std::pair<CimType, std::string_view>, 7> kTypes{{
    {CimType::kString, "string"},
    {CimType::kBoolean, "boolean"},
    {CimType::kUint8, "uint8"},
    {CimType::kUint16, "uint16"},
    {CimType::kUint32, "uint32"},
    {CimType::kUint64, "uint64"},
    {CimType::kDatetime, "datetime"},
}};

Value scalar(CimType type, std::string text) {
  return Value{Scalar{.type = type, .text = std::move(text)}};
}

std::string text_of(const Value& value) {
  const auto* scalar = std::get_if<Scalar>(&value.of);
  return scalar == nullptr ? "" : scalar->text;
}

Error in_property(const Error& error, const Instance& instance, std::string_view name) {
  return error.in("read " + instance.class_name + "." + std::string(name));
}

}  // namespace

std::string_view to_text(CimType type) {
  for (const auto& [one, text] : kTypes) {
    if (one == type) return text;
  }
  return "string";
}

CimType cim_type_from(std::string_view text) {
  for (const auto& [type, name] : kTypes) {
    if (name == text) return type;
  }
  return CimType::kOther;
}

std::string Reference::key(const std::string& name) const {
  const auto found = keys.find(name);
  return found == keys.end() ? "" : found->second;
}

std::string resource_uri(const Reference& reference) {
  return kWmi + reference.name_space + "/" + reference.class_name;
}

bool Array::operator==(const Array& other) const {
  return type == other.type && items == other.items;
}

bool Value::operator==(const Value& other) const {
  return of == other.of;
}

Value Value::null() {
  return {};
}

Value Value::text(std::string text) {
  return scalar(CimType::kString, std::move(text));
}

Value Value::flag(bool flag) {
  return scalar(CimType::kBoolean, flag ? "true" : "false");
}

Value Value::u8(std::uint8_t number) {
  return scalar(CimType::kUint8, std::to_string(number));
}

Value Value::u16(std::uint16_t number) {
  return scalar(CimType::kUint16, std::to_string(number));
}

Value Value::u32(std::uint32_t number) {
  return scalar(CimType::kUint32, std::to_string(number));
}

Value Value::u64(std::uint64_t number) {
  return scalar(CimType::kUint64, std::to_string(number));
}

Value Value::reference(Reference reference) {
  return Value{std::move(reference)};
}

Value Value::embedded(Instance instance) {
  std::vector<Instance> one;
  one.push_back(std::move(instance));
  return Value{std::move(one)};
}

Value Value::list(std::vector<Value> items, CimType type) {
  return Value{Array{.type = type, .items = std::move(items)}};
}

Value Value::texts(const std::vector<std::string>& texts) {
  std::vector<Value> items;
  for (const std::string& one : texts) items.push_back(text(one));
  return list(std::move(items));
}

const Value& Instance::at(std::string_view name) const {
  static const Value kNull;
  const auto found = properties.find(name);
  return found == properties.end() ? kNull : found->second;
}

std::string Instance::text(std::string_view name) const {
  return text_of(at(name));
}

bool Instance::flag(std::string_view name) const {
  return std::ranges::equal(text(name), std::string_view("true"), [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == b;
  });
}

Result<std::uint64_t> Instance::number(std::string_view name) const {
  auto number = parse_number(text(name));
  if (!number) return fail(in_property(number.error(), *this, name));
  return number;
}

std::uint64_t Instance::number_or(std::string_view name, std::uint64_t fallback) const {
  return parse_number(text(name)).value_or(fallback);
}

std::vector<Value> Instance::list(std::string_view name) const {
  const Value& value = at(name);
  if (value.is_null()) return {};
  if (const auto* array = std::get_if<Array>(&value.of)) return array->items;
  return {value};
}

std::vector<std::string> Instance::texts(std::string_view name) const {
  std::vector<std::string> texts;
  for (const Value& value : list(name)) texts.push_back(text_of(value));
  return texts;
}

Result<std::vector<std::uint64_t>> Instance::numbers(std::string_view name) const {
  std::vector<std::uint64_t> numbers;
  for (const Value& value : list(name)) {
    const auto number = parse_number(text_of(value));
    if (!number) return fail(in_property(number.error(), *this, name));
    numbers.push_back(*number);
  }
  return numbers;
}

Result<Reference> Instance::reference(std::string_view name) const {
  const Value& value = at(name);
  if (const auto* reference = std::get_if<Reference>(&value.of)) return *reference;
  if (value.is_null()) {
    return fail(in_property(Error{ErrorCode::kNotFound, "no reference", ""}, *this, name));
  }
  auto parsed = parse_wmi_path(text_of(value));
  if (!parsed) return fail(in_property(parsed.error(), *this, name));
  return parsed;
}

Result<std::vector<Instance>> Instance::instances(std::string_view name) const {
  std::vector<Instance> instances;
  for (const Value& value : list(name)) {
    if (const auto* embedded = std::get_if<std::vector<Instance>>(&value.of)) {
      instances.insert(instances.end(), embedded->begin(), embedded->end());
      continue;
    }
    auto parsed = parse_cim_xml(text_of(value));
    if (!parsed) return fail(in_property(parsed.error(), *this, name));
    instances.push_back(std::move(*parsed));
  }
  return instances;
}

Result<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const char* begin = text.data();
  const char* end = begin + text.size();
  const auto [stop, error] = std::from_chars(begin, end, number);
  if (error != std::errc{} || stop != end || text.empty()) {
    return fail(ErrorCode::kCorrupt, "not a number: '" + std::string(text.substr(0, 64)) + "'");
  }
  return number;
}

}  // namespace farside::wsman
