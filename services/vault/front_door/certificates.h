// The vault's own certificate authority and the certificate of its HTTPS port.
//
// Files in one folder: ca.pem (given to clients), ca.key, server.pem (with the authority behind
// it), server.key; keys have mode 0600 and are refused if others can read them.  The authority is
// made once and kept, and may vouch only for what it was made for: the names asked for, and this
// host's own names and addresses.  The server's certificate is made anew when it nears its end,
// when the names asked for change, or when it is not the authority's. Thread: any, one at a time
// per folder.
#pragma once

#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace farside::front_door {

struct ServerCertificate {
  std::string ca_file;
  std::string chain_file;
  std::string key_file;
  std::string ca_fingerprint;     // SHA-256, hexadecimal: what operators compare.
  bool is_ca_constrained = true;  // False: made before authorities were limited to names.
  Time expires;
  bool renewed = false;  // By this call.
};

// `names` are host names and addresses on top of localhost, 127.0.0.1, ::1 and this host's name.
// Errors: kIo, kForbidden (a key file others can read), kCorrupt (a file that does not parse),
// kInvalidArgument (a name that is none), kConflict (one that the authority may not vouch for).
Result<ServerCertificate> prepare_certificate(const std::string& folder,
                                              const std::vector<std::string>& names,
                                              const Clock& clock);

}  // namespace farside::front_door
