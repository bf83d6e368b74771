// A Hyper-V host, as far as its WMI tells and obeys: its VMs and switches, and methods with jobs.
//
// Owns: connections, of which each call takes one.  Thread: any.
// Errors of all calls: those of wsman::Client and wsman::call; kUnavailable and kTimeout leave open
// whether a change was made.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/schema/types.plain.h"
#include "common/wsman/disk_changes.h"
#include "common/wsman/job.h"
#include "common/wsman/login_channel.h"
#include "services/agent/platforms/hyperv/pool.h"
#include "services/agent/platforms/hyperv/switches.h"
#include "services/agent/platforms/hyperv/virtual_machine.h"

namespace farside::agent::hyperv {

struct HostAccess {
  wsman::HttpTarget target;
  wsman::LoginKind kind = wsman::LoginKind::kNegotiate;
  wsman::Login login;
  std::string record_folder{};  // Where all that is said is kept, for tests; empty: nowhere.
};

class Host final {
 public:
  // `clock` outlives the host.  Nothing is sent yet.
  Host(HostAccess access, Switches networks, const Clock& clock);

  const Switches& networks() const { return networks_; }

  // Processors, memory and version; the rest is left out.
  Result<msg::HostState> describe();
  Result<std::map<std::string, std::string>> switches();  // Names by GUID.
  std::vector<std::string> switch_names(const std::map<std::string, std::string>& switches) const;

  // Errors: kNotFound.  VMs that Farside created are found by the id it gave them, also once they
  // are released.
  Result<VirtualMachine> find(const std::string& vm_id);
  Result<std::vector<VirtualMachine>> vms();
  Result<std::set<std::string>> running();  // GUIDs of VMs that are not off.
  // Of a VM that Farside created, if it was found before; none is like its id.
  std::optional<std::string> known_guid(const std::string& vm_id);
  // The parts of a VM's or a checkpoint's settings.
  Result<std::vector<wsman::Instance>> parts(const std::string& settings_id);

  struct DiskFacts {
    std::uint64_t bytes = 0;           // Of the virtual disk.
    std::string disk_id;               // Lower case, without braces.
    std::uint32_t sector_bytes = 512;  // Logical.
  };
  Result<DiskFacts> disk_facts(const std::string& path);

  Result<std::vector<wsman::Instance>> query(const std::string& wql);
  Result<std::vector<wsman::Instance>> associators(const wsman::Reference& of,
                                                   std::string_view association,
                                                   std::string_view result);
  // Until no job runs on the host that a killed agent may have started, or for a while.
  Status wait_for_jobs();
  // Calls and waits for the job.
  Result<wsman::CallOutcome> call(const wsman::Reference& object, const std::string& method,
                                  const wsman::Parameters& parameters);
  Result<std::vector<wsman::ChangedRange>> changed_ranges(const wsman::ChangesQuestion& question);

  // WMI's path of an object on this host, as references inside of embedded objects need it.
  Result<std::string> path_of(wsman::Reference reference);

 private:
  wsman::JobWait wait() const;
  Result<std::unique_ptr<wsman::Client>> connect();
  Result<RawVm> raw(const std::string& guid);
  Result<std::string> guid_of(const std::string& vm_id);
  Result<std::vector<wsman::Instance>> settings_of_vms();
  Result<std::string> name();

  HostAccess access_;
  Switches networks_;
  const Clock& clock_;
  SystemRandom random_;
  Pool<wsman::Client> clients_;

  std::mutex mutex_;  // Of what was learned about the host.
  std::string name_;
  std::map<std::string, std::string> guids_;  // By the ids that Farside gave.
  int connections_ = 0;
};

wsman::Reference system_of(const std::string& guid);
wsman::Reference setting_of(const std::string& class_name, const std::string& instance_id);

}  // namespace farside::agent::hyperv
