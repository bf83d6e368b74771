#include "services/agent/platforms/libvirt/xml.h"

#include <libxml/parser.h>
#include <libxml/tree.h>

namespace farside::agent::libvirt {
namespace {

std::string_view view(const xmlChar* text) {
  return text == nullptr ? std::string_view{} : reinterpret_cast<const char*>(text);
}

// Takes ownership of what libxml2 allocated.
std::string take(xmlChar* text) {
  std::string copy(view(text));
  if (text != nullptr) xmlFree(text);
  return copy;
}

}  // namespace

std::string XmlNode::attribute(const char* name) const {
  if (node_ == nullptr) return {};
  return take(xmlGetProp(node_, reinterpret_cast<const xmlChar*>(name)));
}

std::string XmlNode::text() const {
  return node_ == nullptr ? "" : take(xmlNodeGetContent(node_));
}

XmlNode XmlNode::child(std::string_view name) const {
  for (xmlNode* at = node_ == nullptr ? nullptr : node_->children; at != nullptr; at = at->next) {
    if (at->type == XML_ELEMENT_NODE && view(at->name) == name) return XmlNode(at);
  }
  return XmlNode();
}

std::vector<XmlNode> XmlNode::children(std::string_view name) const {
  std::vector<XmlNode> found;
  for (xmlNode* at = node_ == nullptr ? nullptr : node_->children; at != nullptr; at = at->next) {
    if (at->type == XML_ELEMENT_NODE && view(at->name) == name) found.emplace_back(at);
  }
  return found;
}

Result<XmlDocument> XmlDocument::parse(std::string_view text) {
  constexpr int kOptions = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING;
  xmlDoc* document =
      xmlReadMemory(text.data(), static_cast<int>(text.size()), nullptr, nullptr, kOptions);
  if (document == nullptr) return fail(ErrorCode::kCorrupt, "a description is not valid XML");
  return XmlDocument(document);
}

XmlNode XmlDocument::root() const {
  return XmlNode(xmlDocGetRootElement(document_.get()));
}

void XmlDocument::Free::operator()(_xmlDoc* document) const {
  xmlFreeDoc(document);
}

std::string xml_escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&apos;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace farside::agent::libvirt
