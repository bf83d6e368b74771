#include "services/agent/platforms/hyperv/hyperv_platform.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <optional>
#include <set>
#include <stop_token>
#include <thread>

#include "common/base/file.h"
#include "common/base/log.h"
#include "services/agent/platforms/hyperv/checkpoints.h"
#include "services/agent/platforms/hyperv/hyperv_point.h"
#include "services/agent/platforms/hyperv/power.h"
#include "services/agent/platforms/hyperv/shares.h"
#include "services/agent/platforms/hyperv/vhdx_bases.h"
#include "services/agent/platforms/hyperv/vm_builder.h"
#include "services/agent/platforms/leftovers.h"
#include "services/agent/platforms/marks.h"
#include "services/agent/platforms/ownership.h"
#include "services/agent/platforms/plan.h"

namespace farside::agent::hyperv {
namespace {

using wsman::Value;

constexpr std::uint64_t kStartNothing = 2;  // AutomaticStartupAction.
constexpr Micros kDiskFactsKept{30'000'000};
constexpr std::chrono::seconds kKeepPeriod(1);
constexpr std::uint32_t kSectorBytes = 512;

// Whether a VM of another platform has a disk whose sectors ours would not have.
bool has_other_sectors(const msg::VmDefinition& definition) {
  constexpr std::string_view kName = "logical_block_size='";
  const std::string usual = fmt::format("{}'", kSectorBytes);
  const std::string_view text = definition.text;
  for (auto at = text.find(kName); at != text.npos; at = text.find(kName, at + 1)) {
    if (!text.substr(at + kName.size()).starts_with(usual)) return true;
  }
  return false;
}

// While it is a test or not whole; else it is somebody's production.
bool is_ours(const Mark& mark) {
  return mark.is_test || mark.is_unfinished;
}

class HypervPlatform final : public Platform {
 public:
  HypervPlatform(Options options, SharedFolders folders, Switches networks, Tracking tracking,
                 Marks fenced, Marks startup_actions, const Clock& clock)
      : options_(std::move(options)),
        clock_(clock),
        host_(options_.access, std::move(networks), clock),
        shares_(std::move(folders), options_.smb),
        bases_(shares_, options_.folder),
        checkpoints_(host_, std::move(tracking)),
        fenced_(std::move(fenced)),
        startup_actions_(std::move(startup_actions)) {}

  replica::BaseDisks* base_disks() override { return &bases_; }
  Result<msg::HostState> describe_host() override;
  Result<std::vector<msg::Vm>> list_vms() override;
  Result<msg::Vm> describe_vm(const std::string& vm_id) override;
  Result<PowerResult> shut_down(const std::string& vm_id, int deadline_s) override;
  Status power_off(const std::string& vm_id) override;
  Status start(const std::string& vm_id) override;
  Result<std::unique_ptr<Point>> create_point(const PointRequest& request) override;
  Status forget_tokens(const std::string& vm_id) override;
  Result<msg::VmDefinition> definition_of(const std::string& vm_id) override;
  Result<std::vector<msg::PlanRow>> plan_vm(const NewVm& vm) override;
  Status prove_vm(const NewVm& vm, const std::string& proof_id, const std::string& folder) override;
  Result<std::string> sign_of_life(const std::string& vm_id) override;
  Status create_vm(const NewVm& vm) override;
  Result<BlockProgress> detach_view(const std::string& vm_id) override;
  Result<std::string> release_vm(const std::string& vm_id) override;
  Status destroy_vm(const std::string& vm_id, bool delete_overlays) override;
  Status set_fenced(const std::string& vm_id, bool fenced) override;
  Result<std::vector<std::string>> enforce_fences() override;
  Status reconcile(const std::vector<std::string>& vms_to_keep) override;

 private:
  msg::Vm with_sizes(VirtualMachine vm);
  Result<Host::DiskFacts> facts_of(const std::string& path);
  Status refuse_if_fenced(const VirtualMachine& vm);
  Status remove(const VirtualMachine& vm, bool delete_disks);
  Status set_startup_action(const VirtualMachine& vm, std::uint64_t action);
  std::optional<std::uint64_t> former_startup_action(const std::string& vm_id) const;
  Status clean_up(const VirtualMachine& vm, const std::vector<std::string>& vms_to_keep);
  Status settle(const std::string& vm_id);
  void keep(const std::stop_token& stop);
  bool lives_in(const VirtualMachine& vm, const std::string& id) const;
  Status remove_disks_of(const std::string& vm_id);

  Options options_;
  const Clock& clock_;
  Host host_;
  Shares shares_;
  VhdxBases bases_;
  Checkpoints checkpoints_;
  Leftovers leftovers_;
  Leftovers::CleanUp clean_up_ = [this](const std::string& id) { return settle(id); };
  Marks fenced_;
  Marks startup_actions_;  // "ID=ACTION" of fenced VMs that their host would start by itself.

  struct Known {
    Host::DiskFacts facts;
    Micros at{0};
  };
  std::mutex mutex_;                    // Of what follows.
  std::map<std::string, Known> known_;  // Of disks that were asked for a short while ago.

  std::mutex keep_mutex_;
  std::condition_variable_any woken_;
  std::jthread keeper_{[this](const std::stop_token& stop) { keep(stop); }};  // Ends first.
};

Result<msg::HostState> HypervPlatform::describe_host() {
  FARSIDE_ASSIGN(msg::HostState state, host_.describe());
  if (!options_.host_name.empty()) state.name = options_.host_name;
  FARSIDE_ASSIGN(const auto switches, host_.switches());
  state.networks = host_.networks().names(host_.switch_names(switches));
  // Room is needed where the disks of replicas are; journals of this machine are small beside them.
  auto space = shares_.space(options_.folder);
  if (!space && space.error().code == ErrorCode::kNotFound) {  // Nothing was ever kept there.
    FARSIDE_TRY(shares_.make_folders(options_.folder));
    space = shares_.space(options_.folder);
  }
  if (!space) return fail(space.error());
  for (const std::string& path : options_.storage) {
    state.storage.push_back(
        {.path = path, .total_bytes = space->total_bytes, .free_bytes = space->free_bytes});
  }
  state.troubles = leftovers_.troubles();
  return state;
}

// What is left of a VM; of one that is gone there is nothing.
Status HypervPlatform::settle(const std::string& vm_id) {
  const auto vm = host_.find(vm_id);
  if (!vm) return vm.error().code == ErrorCode::kNotFound ? Status() : fail(vm.error());
  std::vector<std::string> keep;
  if (!leftovers_.is_going(vm_id)) keep.push_back(vm_id);
  return clean_up(*vm, keep);
}

// Also while no cycle comes by: an item that is paused has none.
void HypervPlatform::keep(const std::stop_token& stop) {
  std::unique_lock lock(keep_mutex_);
  while (!woken_.wait_for(lock, stop, kKeepPeriod, [&] { return stop.stop_requested(); })) {
    leftovers_.sweep(clean_up_);
  }
}

Result<Host::DiskFacts> HypervPlatform::facts_of(const std::string& path) {
  const Micros now = clock_.monotonic();
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(known_, [&](const auto& one) { return now - one.second.at > kDiskFactsKept; });
    if (const auto known = known_.find(path); known != known_.end()) return known->second.facts;
  }
  FARSIDE_ASSIGN(const Host::DiskFacts facts, host_.disk_facts(path));
  const std::lock_guard lock(mutex_);
  known_[path] = {.facts = facts, .at = now};
  return facts;
}

msg::Vm HypervPlatform::with_sizes(VirtualMachine vm) {
  std::set<std::string> ids;
  for (msg::Disk& disk : vm.vm.disks) {
    const auto facts = facts_of(disk.path);
    if (facts) {
      disk.bytes = facts->bytes;
      disk.id = identity_of(facts->disk_id);
    }
    if (!vm.vm.problem.empty()) continue;
    if (!facts) {
      vm.vm.problem = fmt::format("disk {} cannot be read: {}", disk.name, facts.error().what);
    } else if (facts->sector_bytes != kSectorBytes) {
      vm.vm.problem = fmt::format(
          "disk {} has sectors of {} bytes, and disks are made with {} at the target: convert it "
          "with Set-VHD or Convert-VHD",
          disk.name, facts->sector_bytes, kSectorBytes);
    } else if (!ids.insert(disk.id).second) {
      vm.vm.problem = fmt::format(
          "disk {} is a copy of another disk of the VM and has its identifier: with the VM off, "
          "use Set-VHD -ResetDiskIdentifier",
          disk.name);
    } else if (const auto place = shares_.locate(disk.path); !place) {
      vm.vm.problem = place.error().what;
    }
  }
  return std::move(vm.vm);
}

Result<std::vector<msg::Vm>> HypervPlatform::list_vms() {
  FARSIDE_ASSIGN(auto all, host_.vms());
  std::vector<msg::Vm> vms;
  for (VirtualMachine& one : all) {
    if (one.mark && one.mark->is_unfinished) continue;
    vms.push_back(with_sizes(std::move(one)));
  }
  return vms;
}

Result<msg::Vm> HypervPlatform::describe_vm(const std::string& vm_id) {
  FARSIDE_ASSIGN(auto vm, host_.find(vm_id));
  return with_sizes(std::move(vm));
}

Result<PowerResult> HypervPlatform::shut_down(const std::string& vm_id, int deadline_s) {
  FARSIDE_ASSIGN(const auto vm, host_.find(vm_id));
  return hyperv::shut_down(host_, vm, deadline_s);
}

Status HypervPlatform::power_off(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto vm, host_.find(vm_id));
  return turn_off(host_, vm.guid);
}

Status HypervPlatform::refuse_if_fenced(const VirtualMachine& vm) {
  if (!fenced_.has(vm.vm.id)) return {};
  return fail(ErrorCode::kStaleEpoch,
              fmt::format("VM '{}' is fenced on this host: it is active elsewhere", vm.vm.name),
              "fail back, or disable its protection, before starting it here");
}

Status HypervPlatform::start(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto vm, host_.find(vm_id));
  FARSIDE_TRY(refuse_if_fenced(vm));
  const Status started = turn_on(host_, vm.guid);
  if (!started) return fail(started.error().in(fmt::format("VM '{}'", vm.vm.name)));
  return {};
}

Result<std::unique_ptr<Point>> HypervPlatform::create_point(const PointRequest& request) {
  FARSIDE_ASSIGN(const auto vm, host_.find(request.vm_id));
  if (!vm.vm.problem.empty()) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("VM '{}' cannot be protected: {}", vm.vm.name, vm.vm.problem));
  }
  FARSIDE_TRY(leftovers_.settle(request.vm_id, clean_up_));
  return HypervPoint::begin({.host = host_,
                             .checkpoints = checkpoints_,
                             .shares = shares_,
                             .leftovers = leftovers_,
                             .clock = clock_},
                            vm, request);
}

Status HypervPlatform::forget_tokens(const std::string& vm_id) {
  FARSIDE_TRY(leftovers_.settle(vm_id, clean_up_));
  return checkpoints_.forget(vm_id);
}

Result<msg::VmDefinition> HypervPlatform::definition_of(const std::string& vm_id) {
  FARSIDE_ASSIGN(auto vm, describe_vm(vm_id));
  vm.state = msg::PowerState::unknown;
  return msg::VmDefinition{.platform = "hyperv", .shape = std::move(vm)};
}

Result<std::vector<msg::PlanRow>> HypervPlatform::plan_vm(const NewVm& vm) {
  return plan_of_shape(vm.shape);
}

// Without disks: those would be differencing files of as many bytes as the journal's newest blocks.
Status HypervPlatform::prove_vm(const NewVm& vm, const std::string& proof_id,
                                const std::string& /*folder*/) {  // Of the agent, not of the host.
  if (has_other_sectors(vm.definition)) {
    return fail(
        ErrorCode::kUnsupported,
        fmt::format("VM '{}' has a disk whose sectors are not of {} bytes, and the disks of "
                    "this host's replicas are",
                    vm.shape.name, kSectorBytes),
        "protect it to a KVM host");
  }
  FARSIDE_TRY(leftovers_.settle(proof_id, clean_up_));
  FARSIDE_ASSIGN(const auto all, host_.vms());
  for (const VirtualMachine& one : all) {
    if (one.vm.id != vm.id || (one.mark && one.mark->item == vm.item_id)) continue;
    return fail(ErrorCode::kAlreadyExists,
                fmt::format("VM '{}' already has the id {} that VM '{}' would need", one.vm.name,
                            vm.id, vm.shape.name),
                "remove or rename that VM on the target host");
  }
  VmPlan plan{.shape = vm.shape,
              .mark = {.vm = proof_id, .item = vm.item_id, .is_test = true},
              .folder = bases_.vm_folder(proof_id),
              .disks = {},
              .ports = {}};
  plan.shape.name += " - Proof";
  FARSIDE_ASSIGN(const auto switches, host_.switches());
  const auto names = host_.switch_names(switches);
  for (const msg::Nic& nic : vm.shape.nics) {  // They must be there; nothing is connected to them.
    FARSIDE_TRY(host_.networks().port_of(nic.network, names));
    plan.ports.emplace_back();
  }
  const Status built = VmBuilder(host_).build(plan);
  const Status removed = destroy_vm(proof_id, true);
  return built ? removed : built;
}

Result<std::string> HypervPlatform::sign_of_life(const std::string& vm_id) {
  // Source: Msvm_VirtualSystemManagementService.GetSummaryInformation, RequestedInformation; and
  // Msvm_SummaryInformation.Heartbeat.
  constexpr std::uint32_t kAskHeartbeat = 104;
  constexpr std::uint64_t kHeartbeatOk = 2;
  FARSIDE_ASSIGN(const auto vm, host_.find(vm_id));
  FARSIDE_ASSIGN(const auto running, host_.running());
  if (!running.contains(vm.guid)) {
    return fail(ErrorCode::kConflict, fmt::format("VM '{}' does not run", vm.vm.name));
  }
  const wsman::Reference settings{.class_name = "Msvm_VirtualSystemSettingData",
                                  .keys = {{"InstanceID", vm.settings_id}}};
  FARSIDE_ASSIGN(
      const auto answer,
      host_.call(wsman::service("Msvm_VirtualSystemManagementService"), "GetSummaryInformation",
                 {{"SettingData", Value::list({Value::reference(settings)})},
                  {"RequestedInformation",
                   Value::list({Value::u32(kAskHeartbeat)}, wsman::CimType::kUint32)}}));
  FARSIDE_ASSIGN(const auto summaries, answer.output.instances("SummaryInformation"));
  for (const auto& one : summaries) {
    if (one.number_or("Heartbeat", 0) == kHeartbeatOk) {
      return std::string("its integration services send heartbeats");
    }
  }
  return std::string();
}

Status HypervPlatform::create_vm(const NewVm& vm) {
  FARSIDE_TRY(leftovers_.settle(vm.id, clean_up_));
  if (const auto existing = host_.find(vm.id)) {
    if (!existing->mark) {
      return fail(ErrorCode::kForbidden,
                  fmt::format("VM '{}' already has the id {} and was not created by Farside",
                              existing->vm.name, vm.id));
    }
    if (!existing->mark->is_unfinished) return vm.start ? start(vm.id) : Status();
    FARSIDE_TRY(remove(*existing, /*delete_disks=*/false));  // Its disks may be whole already.
  } else if (existing.error().code != ErrorCode::kNotFound) {
    return fail(existing.error());
  }
  VmPlan plan{.shape = vm.shape,
              .mark = {.vm = vm.id, .item = vm.item_id, .is_test = vm.is_test},
              .folder = bases_.vm_folder(vm.id),
              .disks = {},
              .ports = {}};
  FARSIDE_ASSIGN(const auto switches, host_.switches());
  const auto switch_names = host_.switch_names(switches);
  for (const msg::Nic& nic : vm.shape.nics) {
    FARSIDE_ASSIGN(plan.ports.emplace_back(), host_.networks().port_of(nic.network, switch_names));
  }
  for (const NewDisk& disk : vm.disks) {
    FARSIDE_ASSIGN(plan.disks.emplace_back(), bases_.create_child(disk, vm.id));
  }
  FARSIDE_TRY(VmBuilder(host_).build(plan));
  return vm.start ? start(vm.id) : Status();
}

// Its disks stand on files of its own host, which need nobody to serve them.
Result<BlockProgress> HypervPlatform::detach_view(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto vm, describe_vm(vm_id));
  FARSIDE_TRY(bases_.keep_bases(vm_id));
  BlockProgress progress{.finished = true};
  for (const msg::Disk& disk : vm.disks) progress.total += disk.bytes;
  progress.done = progress.total;
  return progress;
}

Status HypervPlatform::remove(const VirtualMachine& vm, bool delete_disks) {
  FARSIDE_TRY(turn_off(host_, vm.guid));
  FARSIDE_TRY(checkpoints_.forget(vm.vm.id));
  FARSIDE_TRY(destroy(host_, vm.guid));
  // After the VM: until then the host has them open.
  if (delete_disks) FARSIDE_TRY(bases_.remove_vm(vm.vm.id));
  return fenced_.remove(vm.vm.id);
}

Result<std::string> HypervPlatform::release_vm(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto vm, host_.find(vm_id));
  if (!vm.mark) return vm.guid;
  if (is_ours(*vm.mark)) return fail(refuse_to_release(vm.vm.name).error());
  FARSIDE_TRY(bases_.keep_bases(vm.vm.id));
  FARSIDE_TRY(forget_tokens(vm.vm.id));
  FARSIDE_TRY(set_notes(host_, vm.settings_id, released(vm.notes)));
  log::info("vm_released", {{"vm", vm_id}, {"guid", vm.guid}, {"name", vm.vm.name}});
  return vm.guid;
}

// Of a VM that is not there, whatever its notes say by now.
Status HypervPlatform::remove_disks_of(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto all, host_.vms());
  const auto user =
      std::ranges::find_if(all, [&](const VirtualMachine& one) { return lives_in(one, vm_id); });
  if (user == all.end()) return bases_.remove_vm(vm_id);
  return fail(ErrorCode::kForbidden,
              fmt::format("VM '{}' lives where the disks of VM {} were", user->vm.name, vm_id),
              "it is left as it is; remove it with the tools of its host");
}

Status HypervPlatform::destroy_vm(const std::string& vm_id, bool delete_overlays) {
  FARSIDE_TRY(leftovers_.settle(vm_id, clean_up_));
  const auto vm = host_.find(vm_id);
  if (!vm) {
    if (vm.error().code != ErrorCode::kNotFound) return fail(vm.error());
    // A call that was cut short may have removed the VM and not its disks.
    return delete_overlays ? remove_disks_of(vm_id) : Status();
  }
  if (!vm->mark) {
    return fail(ErrorCode::kForbidden,
                fmt::format("VM '{}' was not created by Farside", vm->vm.name),
                "remove it with the tools it was created with");
  }
  if (!is_ours(*vm->mark)) return refuse_to_remove(vm->vm.name);
  return remove(*vm, delete_overlays);
}

Status HypervPlatform::set_startup_action(const VirtualMachine& vm, std::uint64_t action) {
  const wsman::Instance change{
      .class_name = "Msvm_VirtualSystemSettingData",
      .properties = {{"InstanceID", Value::text(vm.settings_id)},
                     {"AutomaticStartupAction", Value::u16(static_cast<std::uint16_t>(action))}}};
  FARSIDE_TRY(host_.call(wsman::service("Msvm_VirtualSystemManagementService"),
                         "ModifySystemSettings", {{"SystemSettings", Value::embedded(change)}}));
  return {};
}

std::optional<std::uint64_t> HypervPlatform::former_startup_action(const std::string& vm_id) const {
  for (const std::string& mark : startup_actions_.all()) {
    if (!mark.starts_with(vm_id + "=")) continue;
    const auto action = wsman::parse_number(mark.substr(vm_id.size() + 1));
    if (action) return *action;
  }
  return std::nullopt;
}

// A host starts VMs by itself before any agent is there to stop them.
Status HypervPlatform::set_fenced(const std::string& vm_id, bool fenced) {
  if (fenced) FARSIDE_TRY(fenced_.add(vm_id));
  const auto former = former_startup_action(vm_id);
  const auto vm = host_.find(vm_id);
  if (!vm && vm.error().code != ErrorCode::kNotFound) return fail(vm.error());
  if (vm && fenced && vm->startup_action != kStartNothing) {
    if (!former) FARSIDE_TRY(startup_actions_.add(fmt::format("{}={}", vm_id, vm->startup_action)));
    FARSIDE_TRY(set_startup_action(*vm, kStartNothing));
  }
  if (fenced) return {};
  if (vm && former) FARSIDE_TRY(set_startup_action(*vm, *former));
  if (former) FARSIDE_TRY(startup_actions_.remove(fmt::format("{}={}", vm_id, *former)));
  return fenced_.remove(vm_id);
}

Result<std::vector<std::string>> HypervPlatform::enforce_fences() {
  std::vector<std::string> turned_off;
  const auto fenced = fenced_.all();
  if (fenced.empty()) return turned_off;
  FARSIDE_ASSIGN(const auto running, host_.running());
  std::optional<Error> first_error;  // One VM that refuses must not let the others run.
  for (const std::string& id : fenced) {
    const auto guid = host_.known_guid(id);
    if (!running.contains(guid.value_or(id))) continue;
    log::warn("fenced_vm_runs", {{"vm", id}});
    if (const Status off = turn_off(host_, guid.value_or(id)); off) {
      turned_off.push_back(id);
    } else if (!first_error) {
      first_error = off.error().in("fenced VM " + id);
    }
  }
  if (first_error) return fail(std::move(*first_error));
  return turned_off;
}

Status HypervPlatform::clean_up(const VirtualMachine& vm,
                                const std::vector<std::string>& vms_to_keep) {
  FARSIDE_TRY(checkpoints_.settle(vm.vm.id));
  if (!vm.mark) return {};
  FARSIDE_TRY(bases_.remove_unfinished(vm.vm.id));
  if (std::ranges::find(vms_to_keep, vm.vm.id) != vms_to_keep.end()) return {};
  if (!is_ours(*vm.mark)) {  // It may be production, whatever our records say or no longer say.
    log::warn("vm_of_no_item_left_alone", {{"vm", vm.vm.id}, {"name", vm.vm.name}});
    return {};
  }
  log::info("leftover_vm_removed", {{"vm", vm.vm.id}, {"name", vm.vm.name}});
  return remove(vm, /*delete_disks=*/true);
}

// Whether it is the VM that we knew by `id`, or its files lie where those of that one do: one that
// was released, or whose notes somebody wrote anew.
bool HypervPlatform::lives_in(const VirtualMachine& vm, const std::string& id) const {
  if (vm.vm.id == id || vm.released_as == id) return true;
  const std::string folder = bases_.vm_folder(id);
  return std::ranges::any_of(
      vm.disks, [&](const VhdxDisk& disk) { return is_in_windows_folder(disk.path, folder); });
}

// One VM that cannot be put in order does not keep the others from being replicated: create_point
// settles what is left of it.
Status HypervPlatform::reconcile(const std::vector<std::string>& vms_to_keep) {
  FARSIDE_TRY(host_.wait_for_jobs());  // Of the agent before this one.
  FARSIDE_ASSIGN(const auto all, host_.vms());
  for (const VirtualMachine& vm : all) {
    if (leftovers_.of(vm.vm.id)) continue;  // It is being seen to.
    const Status cleaned = clean_up(vm, vms_to_keep);
    if (cleaned) continue;
    log::error("vm_not_cleaned_up", {{"vm", vm.vm.id}, {"error", cleaned.error()}});
    if (std::ranges::find(vms_to_keep, vm.vm.id) == vms_to_keep.end()) {
      leftovers_.mark_going(vm.vm.id);
    }
    leftovers_.add(vm.vm.id, cleaned.error());
  }
  // Disks whose VM was never defined.
  FARSIDE_ASSIGN(const auto with_disks, bases_.vms_with_disks());
  for (const std::string& id : with_disks) {
    const bool has_vm =
        std::ranges::any_of(all, [&](const VirtualMachine& one) { return lives_in(one, id); });
    if (has_vm || std::ranges::find(vms_to_keep, id) != vms_to_keep.end()) continue;
    // Those that a committed VM left are the operator's.
    const auto is_kept = bases_.has_kept_bases(id);
    const Status removed =
        is_kept ? (*is_kept ? Status() : bases_.remove_vm(id)) : fail(is_kept.error());
    if (!removed) log::error("disks_not_removed", {{"vm", id}, {"error", removed.error()}});
  }
  return {};
}

}  // namespace

Status check(const Options& options) {
  FARSIDE_ASSIGN(const auto folders, SharedFolders::from(options.shares));
  if (const auto place = folders.locate(options.folder); !place) {
    return fail(place.error().in("hyperv.folder"));
  }
  FARSIDE_TRY(Switches::from_options(options.networks));
  FARSIDE_TRY(
      wsman::LoginChannel::open(options.access.target, options.access.kind, options.access.login));
  return {};
}

Result<std::unique_ptr<Platform>> open_platform(const Options& options, const Clock& clock) {
  FARSIDE_TRY(check(options));
  if (options.state_dir.empty()) {
    return fail(ErrorCode::kInvalidArgument, "hyperv: state_dir must be set");
  }
  FARSIDE_ASSIGN(auto folders, SharedFolders::from(options.shares));
  FARSIDE_ASSIGN(auto networks, Switches::from_options(options.networks));
  FARSIDE_ASSIGN(auto tracking, Tracking::open(options.state_dir + "/tracking"));
  FARSIDE_ASSIGN(auto fenced, Marks::open(options.state_dir + "/fenced"));
  FARSIDE_ASSIGN(auto startup_actions, Marks::open(options.state_dir + "/startup-actions"));
  return std::make_unique<HypervPlatform>(options, std::move(folders), std::move(networks),
                                          std::move(tracking), std::move(fenced),
                                          std::move(startup_actions), clock);
}

}  // namespace farside::agent::hyperv
