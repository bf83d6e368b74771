// Reading and writing XML with pugixml.  Names are compared without their prefix: pugixml knows no
// namespaces, and hosts choose prefixes as they like.
#pragma once

#include <pugixml.hpp>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::wsman {

inline constexpr int kXmlDepthMax = 24;

// Errors: kCorrupt.  No entity of the document's own is ever expanded.
Status load_xml(pugi::xml_document& document, std::string_view text);

std::string_view local_name(const pugi::xml_node& node);
bool is_named(const pugi::xml_node& node, std::string_view name);  // Ignores the prefix.
pugi::xml_node child(const pugi::xml_node& node, std::string_view name);
pugi::xml_node first_element(const pugi::xml_node& node);
std::string attribute(const pugi::xml_node& node, std::string_view name);  // Ignores the prefix.
std::string text_of(const pugi::xml_node& node);  // All text directly below, joined.
bool is_nil(const pugi::xml_node& node);

// Fit for element text and for attributes in quotes; what XML cannot carry becomes U+FFFD.
std::string xml_escape(std::string_view text);

}  // namespace farside::wsman
