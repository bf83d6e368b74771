#include "tests/support/hvsim/object_json.h"

namespace farside::hvsim {
namespace {

using nlohmann::json;
using wsman::Array;
using wsman::cim_type_from;
using wsman::Scalar;

json value_json(const Value& value) {
  if (const auto* scalar = std::get_if<Scalar>(&value.of)) {
    return {{"type", to_text(scalar->type)}, {"text", scalar->text}};
  }
  if (const auto* reference = std::get_if<Reference>(&value.of)) {
    return {{"reference", to_json(*reference)}};
  }
  if (const auto* array = std::get_if<Array>(&value.of)) {
    json items = json::array();
    for (const Value& one : array->items) items.push_back(value_json(one));
    return {{"array", to_text(array->type)}, {"items", items}};
  }
  if (const auto* embedded = std::get_if<std::vector<Instance>>(&value.of)) {
    return {{"instance", to_json(embedded->front())}};
  }
  return nullptr;
}

Value value_from(const json& from) {
  if (from.is_null()) return Value::null();
  if (from.contains("text")) {
    return {Scalar{.type = cim_type_from(from.at("type").get<std::string>()),
                   .text = from.at("text").get<std::string>()}};
  }
  if (from.contains("reference")) return Value::reference(reference_from(from.at("reference")));
  if (from.contains("instance")) return Value::embedded(instance_from(from.at("instance")));
  std::vector<Value> items;
  for (const json& one : from.at("items")) items.push_back(value_from(one));
  return Value::list(std::move(items), cim_type_from(from.at("array").get<std::string>()));
}

}  // namespace

json to_json(const Reference& reference) {
  return {{"class", reference.class_name}, {"keys", reference.keys}};
}

json to_json(const Instance& instance) {
  json properties = json::object();
  for (const auto& [name, value] : instance.properties) properties[name] = value_json(value);
  return {{"class", instance.class_name}, {"properties", properties}};
}

Reference reference_from(const json& from) {
  return {.class_name = from.at("class").get<std::string>(),
          .keys = from.at("keys").get<std::map<std::string, std::string>>()};
}

Instance instance_from(const json& from) {
  Instance instance{.class_name = from.at("class").get<std::string>(), .properties = {}};
  for (const auto& [name, value] : from.at("properties").items()) {
    instance.properties[name] = value_from(value);
  }
  return instance;
}

}  // namespace farside::hvsim
