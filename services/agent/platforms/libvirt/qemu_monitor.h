// QEMU's own monitor, for what has to be put right before libvirt opens it: a monitor has one
// client at a time.
//
// Owns: the connection.  Thread: one.  Source:
// https://www.qemu.org/docs/master/interop/qmp-spec.html
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "common/base/descriptor.h"
#include "common/base/result.h"
#include "services/agent/platforms/deadline.h"

namespace farside::agent::libvirt {

class QemuMonitor final {
 public:
  // `within`: for everything that is asked of it.
  // Errors: kUnavailable (QEMU is gone, or busy with another client), kTimeout.
  static Result<QemuMonitor> open(const std::string& path, std::chrono::milliseconds within);

  // What it returned.  Errors: kPlatform with QEMU's own words; as above.
  Result<nlohmann::json> execute(const std::string& command,
                                 const nlohmann::json& arguments = nlohmann::json::object());

 private:
  QemuMonitor(Descriptor socket, std::chrono::milliseconds within)
      : socket_(std::move(socket)), deadline_(within) {}
  Result<nlohmann::json> next();

  Descriptor socket_;
  Deadline deadline_;
  std::string read_;
};

}  // namespace farside::agent::libvirt
