// The addresses that others name and we dial.
#pragma once

#include <string_view>

#include "common/base/result.h"

namespace farside {

// Only tcp://HOST:PORT to 300 bytes: a host name, an IPv4 address or an IPv6 address in brackets,
// and a port from 1 to 65535.  No other transport of libzmq, no wildcard and no source address.
// Errors: kInvalidArgument.
Status check_endpoint(std::string_view endpoint);

}  // namespace farside
