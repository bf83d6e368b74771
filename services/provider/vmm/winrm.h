// Scripts on a VMM server, by the shell of its WinRM.
#pragma once

#include <string>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/wsman/security_context.h"
#include "services/provider/vmm/vmm_source.h"

namespace farside::provider::vmm {

struct Server {
  std::string url;            // "https://vmm.example:5986/wsman"
  std::string user;           // "DOMAIN\user"
  std::string password_file;  // Holds one line, see secret_file.h; read at each login.
  std::string ca_file;        // How to know the server, see wsman::HttpTarget.
  std::string fingerprint;
  wsman::Mechanism mechanism = wsman::Mechanism::kKerberos;
};

// All scripts in one shell, which is closed afterwards.  `clock` and `random` outlive the result.
// Errors: those of wsman::Shell and of read_secret_line(); kPlatform (a script failed; the text has
// its own words).
RunScripts by_winrm(Server server, const Clock& clock, Random& random);

}  // namespace farside::provider::vmm
