// What binds a login to the TLS connection that it is said over: a hash of the certificate that was
// seen there.  Whoever sits between client and host has another one, and cannot pass the login on.
//
// Source: RFC 5929, section 4 (tls-server-end-point).
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::wsman {

// Of a certificate in PEM.  Errors: kCorrupt.
Result<std::string> tls_server_end_point(const std::string& certificate);

}  // namespace farside::wsman
