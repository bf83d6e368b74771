// The shell of a simulated host's WinRM, with a PowerShell that knows a few scripts by name.
//
// A script begins with a line "# farside:NAME".  What it says is the file NAME.json of a folder; if
// there is NAME.error, it fails with that file's text; any other script fails.
//
// As hosts do it: the first Receive after a Command is answered by a fault, as there was no output
// in a while; output comes in pieces; a user has at most kShellsMax shells.
//
// Thread: any; one request at a time is answered.
// Source: MS-WSMV 3.1.4; what public clients report of real hosts.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "common/base/random.h"
#include "tests/support/hvsim/soap_host.h"

namespace farside::hvsim {

inline constexpr std::size_t kShellsMax = 5;           // MaxShellsPerUser was that once.
inline constexpr std::size_t kPieceBytes = 1000;       // Of output in one answer.
inline constexpr std::size_t kCommandCharsMax = 8191;  // Of cmd.exe.

class ShellHost final {
 public:
  // `random` outlives the host.
  ShellHost(std::string folder, Random& random) : folder_(std::move(folder)), random_(random) {}

  // Nothing if the request is not about a shell.
  std::optional<SoapAnswer> answer(const std::string& envelope);

 private:
  struct Command {
    std::string output;
    std::string errors;
    int exit_code = 0;
    bool was_asked = false;
  };
  using Shell = std::map<std::string, Command>;

  Result<std::string> create(const std::string& code_page);
  Result<std::string> start(Shell& shell, const std::string& line);
  static Result<std::string> receive(Shell& shell, const std::string& command);
  Command run(const std::string& line) const;

  const std::string folder_;
  Random& random_;
  std::mutex mutex_;
  std::map<std::string, Shell> shells_;
};

}  // namespace farside::hvsim
