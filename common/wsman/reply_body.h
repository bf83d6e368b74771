// The element in the body of a SOAP envelope, or the error that its fault is.  Pure text in.
#pragma once

#include <pugixml.hpp>
#include <string_view>

#include "common/base/result.h"

namespace farside::wsman {

// `document` takes the XML and outlives the element.
// Errors: kCorrupt (no envelope), and those of a fault, see reply.h.
Result<pugi::xml_node> read_body(pugi::xml_document& document, std::string_view xml);

}  // namespace farside::wsman
