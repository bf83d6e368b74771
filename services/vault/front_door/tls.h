// How the front door speaks TLS: 1.2 with sealing ciphers and forward secrecy only, or 1.3.
#pragma once

#include <openssl/ssl.h>

#include "common/base/result.h"
#include "services/vault/front_door/certificates.h"

namespace farside::front_door {

// Sets up a server's context that was just made.  Errors: kCorrupt (files that do not fit),
// kInternal.
Status set_up_tls(SSL_CTX* context, const ServerCertificate& certificate);

}  // namespace farside::front_door
