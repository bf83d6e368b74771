// A real smbd for a test: on a free port of the loopback, with folders, users and settings of its
// own, so that several run beside each other and beside one of the system's.
//
// Owns: the processes, which end with it, and its state; not the folders that it shares.
// Thread: one at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "tests/support/temp_folder.h"

namespace farside::test {

struct SambaShare {
  std::string name;
  std::string folder;
  std::string as_user{};  // Who touches the files; empty: who runs the test.
  bool read_only = false;
  std::vector<std::string> more{};  // Further lines of its section.
};

struct SambaOptions {
  std::string user = "operator";
  std::string password = "correct horse";
  std::string domain = "FARSIDE";
  std::vector<SambaShare> shares;
  std::vector<std::string> more{};  // Further lines of [global].
};

class SambaServer final {
 public:
  // Why it cannot run here; empty where it can.
  static std::string why_not();

  // Returns once it takes connections.  Errors: kUnsupported (see why_not), kTimeout, kIo.
  static Result<std::unique_ptr<SambaServer>> start(SambaOptions options);
  ~SambaServer();
  SambaServer(const SambaServer&) = delete;
  SambaServer& operator=(const SambaServer&) = delete;

  std::uint16_t port() const { return port_; }
  const SambaOptions& options() const { return options_; }
  std::string log() const;

  void kill();       // As a host that loses power: all processes at once, connections with them.
  Status restart();  // On the same port, after kill().

 private:
  explicit SambaServer(SambaOptions options) : options_(std::move(options)) {}
  Status set_up();
  Status run();

  SambaOptions options_;
  TempFolder folder_;
  std::uint16_t port_ = 0;
  pid_t pid_ = -1;
  int input_ = -1;  // Of smbd, which ends when this does.
};

}  // namespace farside::test
