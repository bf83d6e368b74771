// Embedded objects as WMI wants them in parameters, and gives them in results: CIM-XML in a text.
//
//   <INSTANCE CLASSNAME="Msvm_X"><PROPERTY NAME="P" TYPE="uint16"><VALUE>1</VALUE></PROPERTY>…
//
// Source: DMTF DSP0201, sections 5.2.1 and 5.3.
#pragma once

#include <string>
#include <string_view>

#include "common/wsman/value.h"

namespace farside::wsman {

// Errors: kCorrupt.
Result<Instance> parse_cim_xml(std::string_view text);

// Only what is set: null properties are left out.
std::string to_cim_xml(const Instance& instance);

}  // namespace farside::wsman
