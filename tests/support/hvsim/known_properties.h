// Which properties real hosts know of the objects that clients embed in their requests: a name
// that is spelled wrong is refused here as it is there.
//
// Source: Microsoft, Hyper-V WMI provider (V2), the classes of these names.
#pragma once

#include <string>

#include "tests/support/hvsim/objects.h"

namespace farside::hvsim {

// Empty, or the first property that its class does not have.  Classes that nobody may embed have
// none at all.
std::string unknown_property(const Instance& instance);

}  // namespace farside::hvsim
