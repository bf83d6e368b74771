// What WMI objects are made of: scalars, references to objects, arrays and embedded objects.
//
// WS-Management carries no types: every scalar that was read from a reply is a text, to be read as
// a number where one is expected.  Scalars of CIM-XML, and all that we send, know their type.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/result.h"

namespace farside::wsman {

enum class CimType { kString, kBoolean, kUint8, kUint16, kUint32, kUint64, kDatetime, kOther };

std::string_view to_text(CimType type);  // As in CIM-XML; "string" for kOther.
CimType cim_type_from(std::string_view text);

struct Scalar {
  CimType type = CimType::kString;
  std::string text;

  bool operator==(const Scalar&) const = default;
};

// An object by its class and keys: a WS-Addressing endpoint reference, or a WMI path.
struct Reference {
  std::string class_name;
  std::map<std::string, std::string> keys;
  std::string name_space = "root/virtualization/v2";
  std::string host = {};  // Only in paths; empty: the one asked.

  std::string key(const std::string& name) const;  // Empty if there is no such key.
  bool operator==(const Reference&) const = default;
};

// ".../wmi/root/virtualization/v2/CLASS".
std::string resource_uri(const Reference& reference);

struct Instance;
struct Value;

struct Array {
  CimType type = CimType::kString;
  std::vector<Value> items;  // Nulls keep their place: WMI has arrays that belong together.

  bool operator==(const Array& other) const;
};

struct Value {
  // The vector of instances holds exactly one: an embedded object.
  std::variant<std::monostate, Scalar, Reference, Array, std::vector<Instance>> of;

  static Value null();
  static Value text(std::string text);
  static Value flag(bool flag);
  static Value u8(std::uint8_t number);
  static Value u16(std::uint16_t number);
  static Value u32(std::uint32_t number);
  static Value u64(std::uint64_t number);
  static Value reference(Reference reference);
  static Value embedded(Instance instance);
  static Value list(std::vector<Value> items, CimType type = CimType::kString);
  static Value texts(const std::vector<std::string>& texts);

  bool is_null() const { return std::holds_alternative<std::monostate>(of); }
  bool operator==(const Value& other) const;
};

struct Instance {
  std::string class_name;
  std::map<std::string, Value, std::less<>> properties;

  const Value& at(std::string_view name) const;  // Null if there is no such property.

  // A scalar's text; empty for null and for all that is no scalar.
  std::string text(std::string_view name) const;
  bool flag(std::string_view name) const;  // "true" in any case.
  // Errors: kCorrupt (no unsigned number).
  Result<std::uint64_t> number(std::string_view name) const;
  std::uint64_t number_or(std::string_view name, std::uint64_t fallback) const;
  // An array's items, null being none; a scalar is an array of one, as WS-Management writes both
  // in the same way.
  std::vector<Value> list(std::string_view name) const;
  std::vector<std::string> texts(std::string_view name) const;  // Nulls as "".
  // Errors: kCorrupt.
  Result<std::vector<std::uint64_t>> numbers(std::string_view name) const;
  // An endpoint reference, or a text with a WMI path.  Errors: kNotFound (null), kCorrupt.
  Result<Reference> reference(std::string_view name) const;
  // Embedded objects, also those written as CIM-XML in a text.  Errors: kCorrupt.
  Result<std::vector<Instance>> instances(std::string_view name) const;

  bool operator==(const Instance&) const = default;
};

// Of a method; their order is that of the wire.
using Parameters = std::vector<std::pair<std::string, Value>>;

// Errors: kCorrupt (not a number, or too large).
Result<std::uint64_t> parse_number(std::string_view text);

}  // namespace farside::wsman
