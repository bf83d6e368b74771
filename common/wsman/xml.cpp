#include "common/wsman/xml.h"

namespace farside::wsman {
namespace {

std::string_view without_prefix(std::string_view name) {
  return name.substr(name.find(':') == std::string_view::npos ? 0 : name.find(':') + 1);
}

}  // namespace

Status load_xml(pugi::xml_document& document, std::string_view text) {
  const pugi::xml_parse_result parsed = document.load_buffer(
      text.data(), text.size(), pugi::parse_default | pugi::parse_ws_pcdata_single);
  if (!parsed) {
    return fail(ErrorCode::kCorrupt, std::string("not XML: ") + parsed.description() + " at byte " +
                                         std::to_string(parsed.offset) + " of " +
                                         std::to_string(text.size()));
  }
  return {};
}

std::string_view local_name(const pugi::xml_node& node) {
  return without_prefix(node.name());
}

bool is_named(const pugi::xml_node& node, std::string_view name) {
  return node.type() == pugi::node_element && local_name(node) == name;
}

pugi::xml_node child(const pugi::xml_node& node, std::string_view name) {
  for (const pugi::xml_node& one : node.children()) {
    if (is_named(one, name)) return one;
  }
  return {};
}

pugi::xml_node first_element(const pugi::xml_node& node) {
  for (const pugi::xml_node& one : node.children()) {
    if (one.type() == pugi::node_element) return one;
  }
  return {};
}

std::string attribute(const pugi::xml_node& node, std::string_view name) {
  for (const pugi::xml_attribute& one : node.attributes()) {
    if (without_prefix(one.name()) == name) return one.value();
  }
  return {};
}

std::string text_of(const pugi::xml_node& node) {
  std::string text;
  for (const pugi::xml_node& one : node.children()) {
    if (one.type() == pugi::node_pcdata || one.type() == pugi::node_cdata) text += one.value();
  }
  return text;
}

bool is_nil(const pugi::xml_node& node) {
  const std::string nil = attribute(node, "nil");
  return nil == "true" || nil == "1";
}

std::string xml_escape(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 8);
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&apos;";
        break;
      case '\r':
        escaped += "&#13;";  // A bare one would be read as a line feed.
        break;
      case '\n':
      case '\t':
        escaped += c;
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          escaped += "\xEF\xBF\xBD";
        } else {
          escaped += c;
        }
    }
  }
  return escaped;
}

}  // namespace farside::wsman
