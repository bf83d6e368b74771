// Hyper-V hosts, each controlled by an agent beside it that speaks WS-Management and SMB.
//
// Change tracking: resilient change tracking; a token is a reference point.  Consistent reads:
// recovery checkpoints, whose frozen VHDX files are read over SMB.  VMs made from recovery points
// stand on differencing VHDX files, whose parents are the base disks of replicas (vhdx_bases.h).
// What is ours on the host: VMs with our lines in their notes, one folder, and the checkpoints and
// reference points that state_dir remembers.
//
// Owns: connections, state_dir, one folder of the host.  Thread: any; see Platform.  Points refer
// to the platform and must be gone before it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "services/agent/platforms/hyperv/host.h"
#include "services/agent/platforms/hyperv/shared_folders.h"
#include "services/agent/platforms/hyperv/smb/share.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::hyperv {

struct Options {
  std::string host_name;  // As the provider knows it; empty: as it calls itself.
  HostAccess access;
  smb::ShareOptions smb;  // Without the share's name.
  std::vector<SharedFolder> shares;
  std::string folder;                // On the host, shared: for replicas and VMs made from them.
  std::string state_dir;             // Of this agent: small and durable.
  std::vector<std::string> storage;  // Directories of this machine, for journals.
  std::map<std::string, std::string> networks;  // See Switches.
};

// What can be told without the host.  Errors: kInvalidArgument.
Status check(const Options& options);

// Asks the host nothing yet: it may be away.  Errors: kInvalidArgument, kIo.
Result<std::unique_ptr<Platform>> open_platform(const Options& options, const Clock& clock);

}  // namespace farside::agent::hyperv
