#include "common/wsman/cim_xml.h"

#include <algorithm>

#include "common/wsman/wmi_path.h"
#include "common/wsman/xml.h"

namespace farside::wsman {
namespace {

std::string scalar_text(const Value& value) {
  if (const auto* scalar = std::get_if<Scalar>(&value.of)) return scalar->text;
  if (const auto* reference = std::get_if<Reference>(&value.of)) return to_wmi_path(*reference);
  const auto* embedded = std::get_if<std::vector<Instance>>(&value.of);
  return embedded == nullptr || embedded->empty() ? "" : to_cim_xml(embedded->front());
}

std::string value_element(const Value& value) {
  if (value.is_null()) return "<VALUE.NULL/>";
  return "<VALUE>" + xml_escape(scalar_text(value)) + "</VALUE>";
}

std::string_view type_of(const Value& value) {
  const auto* scalar = std::get_if<Scalar>(&value.of);
  return scalar == nullptr ? "string" : to_text(scalar->type);
}

std::string property_element(const std::string& name, const Value& value) {
  const bool is_embedded = std::holds_alternative<std::vector<Instance>>(value.of);
  const std::string start = " NAME=\"" + xml_escape(name) + "\" TYPE=\"";
  if (const auto* array = std::get_if<Array>(&value.of)) {
    std::string items;
    for (const Value& item : array->items) items += value_element(item);
    return "<PROPERTY.ARRAY" + start + std::string(to_text(array->type)) + "\"><VALUE.ARRAY>" +
           items + "</VALUE.ARRAY></PROPERTY.ARRAY>";
  }
  return "<PROPERTY" + start + std::string(type_of(value)) +
         (is_embedded ? "\" EmbeddedObject=\"instance\">" : "\">") + value_element(value) +
         "</PROPERTY>";
}

Value read_scalar(const pugi::xml_node& node, CimType type) {
  if (!is_named(node, "VALUE")) return {};
  return Value{Scalar{.type = type, .text = text_of(node)}};
}

Value read_property(const pugi::xml_node& node) {
  const CimType type = cim_type_from(attribute(node, "TYPE"));
  if (is_named(node, "PROPERTY.REFERENCE")) {
    // Windows writes a path; the form with VALUE.REFERENCE elements has not been seen.
    const std::string path = text_of(child(node, "VALUE"));
    return path.empty() ? Value{} : Value::text(path);
  }
  if (!is_named(node, "PROPERTY.ARRAY")) return read_scalar(child(node, "VALUE"), type);
  const pugi::xml_node array = child(node, "VALUE.ARRAY");
  if (!array) return {};
  std::vector<Value> items;
  for (const pugi::xml_node& item : array.children()) {
    if (item.type() == pugi::node_element) items.push_back(read_scalar(item, type));
  }
  return Value::list(std::move(items), type);
}

// Names stand in attributes, where control characters do not survive being written.
bool is_name(std::string_view text) {
  return !text.empty() &&
         std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

}  // namespace

Result<Instance> parse_cim_xml(std::string_view text) {
  pugi::xml_document document;
  if (const Status loaded = load_xml(document, text); !loaded) {
    return fail(loaded.error().in("read an embedded object"));
  }
  pugi::xml_node root = first_element(document);
  // WMI can wrap an object: <DECLGROUP><VALUE.OBJECT><INSTANCE>.
  for (int depth = 0; depth < 4 && root && !is_named(root, "INSTANCE"); ++depth) {
    root = first_element(root);
  }
  if (!root || !is_named(root, "INSTANCE") || !is_name(attribute(root, "CLASSNAME"))) {
    return fail(ErrorCode::kCorrupt, "read an embedded object: no INSTANCE with a class");
  }
  Instance instance{.class_name = attribute(root, "CLASSNAME"), .properties = {}};
  for (const pugi::xml_node& node : root.children()) {
    if (node.type() != pugi::node_element || !local_name(node).starts_with("PROPERTY")) continue;
    const std::string name = attribute(node, "NAME");
    if (!is_name(name)) return fail(ErrorCode::kCorrupt, "read an embedded object: no name");
    instance.properties[name] = read_property(node);
  }
  return instance;
}

std::string to_cim_xml(const Instance& instance) {
  std::string xml = "<INSTANCE CLASSNAME=\"" + xml_escape(instance.class_name) + "\">";
  for (const auto& [name, value] : instance.properties) {
    if (!value.is_null()) xml += property_element(name, value);
  }
  return xml + "</INSTANCE>";
}

}  // namespace farside::wsman
