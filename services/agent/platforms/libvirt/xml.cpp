#include "services/agent/platforms/libvirt/xml.h"

#include <fmt/core.h>
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

bool is_deeper_than(const XmlNode& node, int levels) {
  for (const XmlNode& each : node.elements()) {
    if (levels == 0 || is_deeper_than(each, levels - 1)) return true;
  }
  return false;
}

}  // namespace

std::string XmlNode::name() const {
  return node_ == nullptr ? "" : std::string(view(node_->name));
}

std::string XmlNode::space() const {
  return node_ == nullptr || node_->ns == nullptr ? "" : std::string(view(node_->ns->href));
}

std::vector<XmlAttribute> XmlNode::attributes() const {
  std::vector<XmlAttribute> found;
  for (xmlAttr* at = node_ == nullptr ? nullptr : node_->properties; at != nullptr; at = at->next) {
    if (at->ns != nullptr) continue;
    found.push_back({std::string(view(at->name)),
                     take(xmlNodeListGetString(node_->doc, at->children, /*inLine=*/1))});
  }
  return found;
}

std::string XmlNode::own_text() const {
  std::string text;
  for (xmlNode* at = node_ == nullptr ? nullptr : node_->children; at != nullptr; at = at->next) {
    if (at->type == XML_TEXT_NODE || at->type == XML_CDATA_SECTION_NODE) text += view(at->content);
  }
  return text;
}

std::vector<XmlNode> XmlNode::elements() const {
  std::vector<XmlNode> found;
  for (xmlNode* at = node_ == nullptr ? nullptr : node_->children; at != nullptr; at = at->next) {
    if (at->type == XML_ELEMENT_NODE) found.emplace_back(at);
  }
  return found;
}

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

Result<XmlDocument> XmlDocument::parse_foreign(std::string_view text) {
  if (text.size() > kForeignTextMax) {
    return fail(ErrorCode::kTooLarge, fmt::format("a description has {} bytes, more than {}",
                                                  text.size(), kForeignTextMax));
  }
  // Before libxml2 sees it; no other encoding can hide these words, as UTF-8 is prescribed.
  for (const std::string_view word : {"<!DOCTYPE", "<!ENTITY", "<!ATTLIST"}) {
    if (text.contains(word)) {
      return fail(ErrorCode::kCorrupt, fmt::format("a description contains {}", word));
    }
  }
  if (text.contains('\0')) return fail(ErrorCode::kCorrupt, "a description is not text");
  constexpr int kOptions =
      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA;
  XmlDocument document(
      xmlReadMemory(text.data(), static_cast<int>(text.size()), nullptr, "UTF-8", kOptions));
  if (!document.document_ || document.document_->intSubset != nullptr) {
    return fail(ErrorCode::kCorrupt, "a description is not valid XML");
  }
  if (is_deeper_than(document.root(), kForeignDepthMax)) {
    return fail(ErrorCode::kTooLarge, "a description is nested too deeply");
  }
  return document;
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
