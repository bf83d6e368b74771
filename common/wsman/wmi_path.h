// WMI object paths, as references inside of embedded objects are written:
//
//   \\HOST\Root\Virtualization\V2:Msvm_ComputerSystem.CreationClassName="…",Name="…"
//
// In quotes a backslash and a quote are doubled by a backslash before them.
// Source: Microsoft, "Describing the Location of a WMI Object".
#pragma once

#include <string>
#include <string_view>

#include "common/wsman/value.h"

namespace farside::wsman {

// Host and namespace may be missing; the namespace comes out in lower case with forward slashes.
// Errors: kCorrupt.
Result<Reference> parse_wmi_path(std::string_view path);

// With host and namespace if `reference.host` is set, relative otherwise.
std::string to_wmi_path(const Reference& reference);

// Fit for a text in double quotes of a path, or in single quotes of a WQL query.
std::string wmi_escape(std::string_view text);

// "ASSOCIATORS OF {CLASS.KEY='…'} WHERE AssocClass=… ResultClass=…"; empty classes are left out.
std::string associators_query(const Reference& of, std::string_view association,
                              std::string_view result);

}  // namespace farside::wsman
