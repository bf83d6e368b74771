// A libvirt daemon of a test's own, with everything that belongs to it in one folder, whatever else
// runs on this machine: it has its own view of libvirt's directories (a mount namespace; needs
// root; the script `libvirtd` beside this file).
//
// Owns: the daemon, its folder and every guest in it.  Thread: one.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>

#include "services/agent/platforms/libvirt/connection.h"

namespace farside {

class Libvirtd {
 public:
  // Why there cannot be one here, for GTEST_SKIP; empty: there can.
  static std::string why_not();

  // In `folder`, which need not exist; not started yet.
  explicit Libvirtd(std::filesystem::path folder);
  ~Libvirtd();  // Ends its guests too.
  Libvirtd(const Libvirtd&) = delete;
  Libvirtd& operator=(const Libvirtd&) = delete;

  // Each is there when its call returns.  Guests go on whatever becomes of the daemon.
  Status start();  // Errors: kTimeout, kPlatform (the end of its log).
  void stop();
  Status restart();
  void freeze();
  void thaw();

  std::string uri() const;
  const std::filesystem::path& folder() const { return folder_; }

  // A connection beside those of the platform under test: the operator's, or another tool's.
  Result<agent::libvirt::ConnectionHandle> connect() const;

  // Of the QEMU process that runs a guest; 0: none.
  pid_t pid_of(const std::string& name) const;

 private:
  [[noreturn]] void become_daemon() const;
  void kill_guests() const;

  std::filesystem::path folder_;
  pid_t pid_ = 0;
};

}  // namespace farside
