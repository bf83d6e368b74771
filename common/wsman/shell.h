// Commands on a Windows host, by the shell of its WinRM: for what has no WMI class, like Virtual
// Machine Manager's PowerShell cmdlets.
//
// Owns: the channel, and the shell on the host while there is one.  A host lets a user have few
// shells, so close() it; one that is left over ends by itself some time after its last command.
// Thread: one at a time.
// Source: MS-WSMV 3.1.4.5 and 3.1.4.10 to 3.1.4.14 (Create, Delete, Command, Signal, Receive).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/wsman/channel.h"
#include "common/wsman/client.h"

namespace farside::wsman {

inline constexpr const char* kShellUri =
    "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd";
inline constexpr const char* kShellActions =
    "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";

struct Command {
  std::string program;
  std::vector<std::string> arguments = {};
};

// `script` by powershell.exe, as text that needs no quoting.  Lines of a shell are at most 8,191
// characters long: scripts of more than about 3,000 are refused by hosts.
Command powershell(std::string_view script);

struct CommandResult {
  std::string output;
  std::string errors;
  int exit_code = 0;
};

class Shell final {
 public:
  // `clock` and `random` outlive the shell.  Nothing is sent yet.
  Shell(ClientOptions options, std::unique_ptr<Channel> channel, const Clock& clock,
        Random& random);

  // Runs a command to its end.  Opens the shell if there is none.
  // Errors: those of Channel::ask and of faults; kTimeout (the command was ended), kTooLarge
  // (more than kOutputBytesMax).
  Result<CommandResult> run(const Command& command, Micros within);

  // Errors: as run(); the shell is forgotten in any case.
  Status close();

 private:
  Status open();
  Result<CommandResult> receive(const std::string& command, Micros until);
  Result<std::string> ask(const std::string& action, const std::string& body,
                          const std::map<std::string, std::string>& options = {});
  Status signal_end(const std::string& command);

  ClientOptions options_;
  std::unique_ptr<Channel> channel_;
  const Clock& clock_;
  Random& random_;
  std::string id_;  // Of the shell; empty: none.
};

inline constexpr std::size_t kOutputBytesMax = std::size_t{16} << 20U;

}  // namespace farside::wsman
