// Which platform this agent controls, and how to reach its host: what the configuration says of it.
//
//   platform = "libvirt"            with [libvirt]
//   platform = "hyperv"             with [hyperv], [hyperv.smb], [[hyperv.share]]
//   [[network]]                     VM networks of the host, for either
#pragma once

#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/base/config.h"
#include "services/agent/platforms/hyperv/hyperv_platform.h"
#include "services/agent/platforms/libvirt/libvirt_platform.h"

namespace farside::agent {

struct HostSettings {
  bool is_hyperv = false;
  libvirt::Options libvirt;
  hyperv::Options hyperv;
  std::vector<std::string> storage;  // Where replicas may lie on this host.
  std::string hyperv_password_file;  // Read when the platform is opened.
  std::string smb_password_file;
};

// `name`: of the host, as the provider knows it.  `data_dir` takes what the platform remembers.
// Errors: kInvalidArgument.  Mistakes in single values are told by config.finish().
Result<HostSettings> read_host_settings(Config& config, const std::string& name,
                                        const std::string& data_dir);

// Errors: those of the platform's open_platform(), of read_secret_line() (a password file).
Result<std::unique_ptr<Platform>> open_host(HostSettings settings, const Clock& clock);

}  // namespace farside::agent
