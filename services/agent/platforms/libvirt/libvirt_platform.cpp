#include "services/agent/platforms/libvirt/libvirt_platform.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <libvirt/virterror.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <stop_token>
#include <system_error>
#include <thread>

#include "common/base/file.h"
#include "common/base/log.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/definition.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/fences.h"
#include "services/agent/platforms/libvirt/host_memory.h"
#include "services/agent/platforms/libvirt/host_networks.h"
#include "services/agent/platforms/libvirt/image_file.h"
#include "services/agent/platforms/libvirt/kvm_probe.h"
#include "services/agent/platforms/libvirt/life.h"
#include "services/agent/platforms/libvirt/moved_disks.h"
#include "services/agent/platforms/libvirt/overlay.h"
#include "services/agent/platforms/libvirt/points.h"
#include "services/agent/platforms/libvirt/power.h"
#include "services/agent/platforms/libvirt/prerequisites.h"
#include "services/agent/platforms/libvirt/proof.h"
#include "services/agent/platforms/libvirt/qemu_folder.h"
#include "services/agent/platforms/libvirt/session.h"
#include "services/agent/platforms/libvirt/starting_guests.h"
#include "services/agent/platforms/libvirt/transform.h"
#include "services/agent/platforms/ownership.h"

namespace farside::agent::libvirt {
namespace {

using std::chrono::seconds;

constexpr std::chrono::milliseconds kKeepPeriod(500);
constexpr std::size_t kCleanersMax = 16;
constexpr std::chrono::seconds kReconcileMax(60);
constexpr unsigned kUndefineFlags = VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA |
                                    VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                                    VIR_DOMAIN_UNDEFINE_MANAGED_SAVE;

std::string version_text(unsigned long version) {
  return fmt::format("{}.{}.{}", version / 1'000'000, version / 1'000 % 1'000, version % 1'000);
}

std::chrono::seconds host_uptime() {
  struct timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec);
}

class LibvirtPlatform final : public Platform {
 public:
  LibvirtPlatform(Options options, std::unique_ptr<Session> session, Networks networks,
                  std::unique_ptr<Points> points, std::unique_ptr<MovedDisks> moved,
                  std::unique_ptr<Fences> fences)
      : options_(std::move(options)),
        session_(std::move(session)),
        connection_{*session_},
        networks_(std::move(networks)),
        points_(std::move(points)),
        moved_(std::move(moved)),
        fences_(std::move(fences)),
        starting_(seconds(options_.guest_start_seconds), host_uptime()),
        keeper_([this](std::stop_token stop) { every_moment(stop, [this] { revive_once(); }); }),
        sweeper_([this](std::stop_token stop) {
          every_moment(stop, [this] {
            points_->sweep([this](const std::string& id) { return clean_up(id); });
          });
        }) {}

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
  Status share_view(const std::string& socket) override;
  Status create_vm(const NewVm& vm) override;
  Result<BlockProgress> detach_view(const std::string& vm_id) override;
  Result<std::string> release_vm(const std::string& vm_id) override;
  Status destroy_vm(const std::string& vm_id, bool delete_overlays) override;
  Status set_fenced(const std::string& vm_id, bool fenced) override;
  Result<std::vector<std::string>> enforce_fences() override;
  Status reconcile(const std::vector<std::string>& vms_to_keep) override;

 private:
  Result<virConnectPtr> connect();
  Result<DomainHandle> find(const std::string& vm_id);
  TargetHost target_host(const NewVm& vm) const;
  Result<DomainShape> shape_of(virDomainPtr domain);
  Result<msg::Vm> describe(virDomainPtr domain);
  Result<std::vector<DomainHandle>> domains();

  Status make_vm_folder(const std::string& path);
  Status remove(virDomainPtr domain, const DomainShape& shape, bool delete_overlays);
  Status clean_up(const std::string& vm_id);

  // VMs that are put in order after a start, by some threads.
  struct Cleaning {
    std::vector<std::string> vms;
    std::atomic<std::size_t> next = 0;
    std::mutex mutex;  // Guards the next two.
    std::condition_variable ended;
    std::set<std::string> done;
  };
  void clean(Cleaning& todo, const std::stop_token& stop);

  void every_moment(const std::stop_token& stop, const std::function<void()>& act);
  // VMs of ours that QEMU stopped because their view did not answer.
  void revive_once();
  Status refuse_starting(virDomainPtr domain, const DomainShape& shape);

  // The connection of the moment, for single calls.
  struct Connection {
    Session& session;
    virConnectPtr get() const { return session.get(); }
  };

  Options options_;
  std::unique_ptr<Session> session_;
  Connection connection_;
  HostNetworks networks_;
  Prerequisites prerequisites_;
  std::unique_ptr<Points> points_;
  std::unique_ptr<MovedDisks> moved_;
  std::unique_ptr<Fences> fences_;
  StartingGuests starting_;
  std::vector<std::jthread> cleaners_;  // Those that a guest holds up.
  std::jthread keeper_;                 // Last: these use everything above.
  std::jthread sweeper_;
};

// Whatever looks at networks has asked for a VM, or for all of them, before.
Result<virConnectPtr> LibvirtPlatform::connect() {
  FARSIDE_ASSIGN(const virConnectPtr connection, session_->use());
  networks_.ask_once(connection);
  return connection;
}

Result<DomainHandle> LibvirtPlatform::find(const std::string& vm_id) {
  FARSIDE_TRY(connect());
  return session_->find(vm_id);
}

Result<DomainShape> LibvirtPlatform::shape_of(virDomainPtr domain) {
  const std::string xml = take_text(virDomainGetXMLDesc(domain, 0));
  if (xml.empty()) return libvirt_error("describe a VM");
  FARSIDE_ASSIGN(auto shape, read_domain(xml, networks_.now()));
  FARSIDE_TRY(prerequisites_.check(domain, shape));
  return shape;
}

Result<msg::Vm> LibvirtPlatform::describe(virDomainPtr domain) {
  FARSIDE_ASSIGN(auto shape, shape_of(domain));
  FARSIDE_ASSIGN(shape.vm.state, power_state(domain));
  if (const auto left = points_->leftovers().of(shape.vm.id);
      left && left->code != ErrorCode::kBusy && shape.vm.problem.empty()) {
    shape.vm.problem = "what an earlier point left is not cleaned up yet: " + left->what;
  }
  return std::move(shape.vm);
}

Result<std::vector<DomainHandle>> LibvirtPlatform::domains() {
  FARSIDE_ASSIGN(const virConnectPtr connection, connect());
  virDomainPtr* list = nullptr;
  const int count = virConnectListAllDomains(connection, &list, 0);
  if (count < 0) return libvirt_error("list the VMs of this host");
  std::vector<DomainHandle> found(list, list + count);
  std::free(list);
  return found;
}

Result<msg::HostState> LibvirtPlatform::describe_host() {
  FARSIDE_ASSIGN(const virConnectPtr connection, connect());
  virNodeInfo node;
  if (virNodeGetInfo(connection, &node) != 0) return libvirt_error("describe this host");
  unsigned long qemu = 0;
  unsigned long library = 0;
  virConnectGetVersion(connection, &qemu);
  virConnectGetLibVersion(connection, &library);
  msg::HostState host{.name = options_.host_name,
                      .platform = "libvirt",
                      .platform_version = fmt::format("QEMU {}, libvirt {}", version_text(qemu),
                                                      version_text(library)),
                      .processors = node.cpus,
                      .memory_mib = node.memory >> 10U,
                      .memory_free_mib = virNodeGetFreeMemory(connection) >> 20U,
                      .networks = networks_.ask(connection).names()};
  for (const std::string& path : options_.storage) {
    std::error_code error;
    const auto space = std::filesystem::space(path, error);
    if (error) continue;
    host.storage.push_back(
        {.path = path, .total_bytes = space.capacity, .free_bytes = space.available});
  }
  host.troubles = points_->leftovers().troubles();
  return host;
}

Result<std::vector<msg::Vm>> LibvirtPlatform::list_vms() {
  FARSIDE_ASSIGN(const auto all, domains());
  std::map<std::string, int> running;
  for (const DomainHandle& domain : all) {
    const int run = static_cast<int>(virDomainGetID(domain.get()));
    if (run >= 0) running[uuid_of(domain.get())] = run;
  }
  starting_.see(running, std::chrono::steady_clock::now());
  std::vector<msg::Vm> vms;
  for (const DomainHandle& domain : all) {
    auto vm = describe(domain.get());
    if (vm) {
      vms.push_back(std::move(*vm));
    } else if (vm.error().code != ErrorCode::kNotFound) {  // Removed meanwhile.
      return fail(std::move(vm).error());
    }
  }
  return vms;
}

Result<msg::Vm> LibvirtPlatform::describe_vm(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto domain, find(vm_id));
  return describe(domain.get());
}

Result<PowerResult> LibvirtPlatform::shut_down(const std::string& vm_id, int deadline_s) {
  FARSIDE_TRY(connect());
  return libvirt::shut_down(*session_, vm_id, seconds(deadline_s));
}

Status LibvirtPlatform::power_off(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto domain, find(vm_id));
  return turn_off(domain.get());
}

Status LibvirtPlatform::start(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto domain, find(vm_id));
  if (fences_->has(vm_id)) {
    return fail(ErrorCode::kStaleEpoch,
                fmt::format("VM '{}' is fenced on this host: it is active elsewhere",
                            virDomainGetName(domain.get())),
                "fail back, or disable its protection, before starting it here");
  }
  FARSIDE_ASSIGN(const auto state, power_state(domain.get()));
  if (state == msg::PowerState::running) return {};
  if (state == msg::PowerState::paused) {
    if (virDomainResume(domain.get()) != 0) return libvirt_error("resume VM " + vm_id);
    return {};
  }
  FARSIDE_ASSIGN(const auto shape, shape_of(domain.get()));
  if (shape.is_ours) FARSIDE_TRY(moved_->before_start(domain.get(), shape));
  if (auto saved = refuse_saved(domain.get()); !saved) {
    if (saved.error().code == ErrorCode::kConflict) saved.error().code = ErrorCode::kAlreadyExists;
    return saved;
  }
  const auto started = turn_on(domain.get(), 0);
  if (!started) {
    return fail(started.error().in(fmt::format("VM '{}'", virDomainGetName(domain.get()))));
  }
  return {};
}

Result<std::unique_ptr<Point>> LibvirtPlatform::create_point(const PointRequest& request) {
  FARSIDE_TRY(points_->prepare(request.vm_id, [&](const std::string& id) { return clean_up(id); }));
  FARSIDE_ASSIGN(const auto domain, find(request.vm_id));
  FARSIDE_TRY(refuse_snapshots(domain.get()));
  FARSIDE_ASSIGN(const auto shape, shape_of(domain.get()));
  FARSIDE_TRY(refuse_writers(domain.get(), shape));
  FARSIDE_TRY(refuse_starting(domain.get(), shape));
  if (!shape.vm.problem.empty()) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("VM '{}' cannot be protected: {}", shape.vm.name, shape.vm.problem),
                "mend what it names on this host; replication goes on by itself");
  }
  return points_->create(domain.get(), shape, request, networks_.now());
}

Status LibvirtPlatform::refuse_starting(virDomainPtr domain, const DomainShape& shape) {
  if (!shape.has_agent_channel || shape.has_guest_agent) return {};
  const int run = run_of(domain);
  if (run < 0 || !starting_.is_starting(shape.vm.id, run, std::chrono::steady_clock::now())) {
    return {};
  }
  return fail(
      ErrorCode::kBusy,
      fmt::format("the guest of VM '{}' is starting: its agent has not come yet", shape.vm.name),
      fmt::format("its points go on when it has, or {} s after the start",
                  options_.guest_start_seconds));
}

Status LibvirtPlatform::forget_tokens(const std::string& vm_id) {
  return points_->forget(vm_id);
}

Result<msg::VmDefinition> LibvirtPlatform::definition_of(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto domain, find(vm_id));
  return capture_definition(domain.get(), networks_.now(), /*with_nvram=*/false);
}

TargetHost LibvirtPlatform::target_host(const NewVm& vm) const {
  return {.type = options_.domain_type,
          .emulator = options_.emulator,
          .serial_log = vm.serial_log.empty()
                            ? fmt::format("{}/serial/{}.log", options_.state_dir, vm.id)
                            : vm.serial_log,
          .boot_folder = options_.boot_folder,
          .firmware = installed_firmware(firmware_folders())};
}

Result<std::vector<msg::PlanRow>> LibvirtPlatform::plan_vm(const NewVm& vm) {
  FARSIDE_ASSIGN(const virConnectPtr connection, connect());
  const auto networks = networks_.ask(connection);
  FARSIDE_ASSIGN(auto made, make_domain(vm, networks, target_host(vm)));
  return std::move(made.rows);
}

Status LibvirtPlatform::prove_vm(const NewVm& vm, const std::string& proof_id,
                                 const std::string& folder) {
  FARSIDE_ASSIGN(const virConnectPtr connection, connect());
  points_->leftovers().mark_going(proof_id);
  FARSIDE_TRY(points_->prepare(proof_id, [&](const std::string& id) { return clean_up(id); }));
  const auto networks = networks_.ask(connection);
  auto proven = libvirt::prove_vm(
      {.connection = connection,
       .networks = networks,
       .host = target_host(vm),
       .folder = folder,
       .make_folder = [this](const std::string& path) { return make_vm_folder(path); }},
      vm, proof_id);
  if (proven) return proven;
  const auto left = find(proof_id);
  if (left || left.error().code != ErrorCode::kNotFound) {
    points_->leftovers().add(proof_id, proven.error());
  }
  return proven;
}

Result<std::string> LibvirtPlatform::sign_of_life(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto domain, find(vm_id));
  FARSIDE_ASSIGN(const auto shape, shape_of(domain.get()));
  return libvirt::sign_of_life(domain.get(), shape);
}

// With that of all such VMs, and the storage that they lie in.
Status LibvirtPlatform::make_vm_folder(const std::string& path) {
  constexpr int kLevels = 3;
  FARSIDE_ASSIGN(const auto user, session_->qemu_user());
  FARSIDE_TRY(
      make_qemu_folder(path, user, std::max(kLevels, levels_within(path, options_.own_folder))));
  return user ? check_entry(path, *user) : Status();
}

Status LibvirtPlatform::share_view(const std::string& socket) {
  if (socket.empty()) return {};
  const std::string folder = std::filesystem::path(socket).parent_path().string();
  FARSIDE_ASSIGN(const auto user, session_->qemu_user());
  FARSIDE_TRY(make_qemu_folder(folder, user, levels_within(folder, options_.own_folder)));
  if (!user) return {};
  FARSIDE_TRY(share_with_qemu(socket, *user));
  return check_entry(folder, *user);
}

Status LibvirtPlatform::create_vm(const NewVm& vm) {
  auto existing = find(vm.id);
  if (existing) {
    FARSIDE_ASSIGN(const auto shape, shape_of(existing->get()));
    if (!shape.is_ours) {
      return fail(ErrorCode::kForbidden,
                  fmt::format("VM '{}' already has the id {} and was not created by Farside",
                              shape.vm.name, vm.id));
    }
    if (virDomainIsActive(existing->get()) == 1) return {};
  } else if (existing.error().code != ErrorCode::kNotFound) {
    return fail(std::move(existing).error());
  }
  const TargetHost host = target_host(vm);
  FARSIDE_ASSIGN(const virConnectPtr connection, connect());
  const auto networks = networks_.ask(connection);
  FARSIDE_ASSIGN(const auto made, make_domain(vm, networks, host));
  FARSIDE_TRY(make_folders(std::filesystem::path(host.serial_log).parent_path()));
  for (const NewDisk& disk : vm.disks) {
    // A VM that is defined has had all its overlays, and may have written to them.
    if (existing && ::access(disk.overlay_path.c_str(), F_OK) != 0) {
      return fail(ErrorCode::kNotFound,
                  fmt::format("disk {} of VM '{}' is gone: {}", disk.name, vm.shape.name,
                              disk.overlay_path),
                  "mount its volume or bring the file back; if it is lost, remove the VM and "
                  "start it again from a recovery point");
    }
    FARSIDE_TRY(make_vm_folder(std::filesystem::path(disk.overlay_path).parent_path()));
    FARSIDE_TRY(share_view(disk.nbd_socket));
    FARSIDE_TRY(create_overlay(disk));
  }
  if (!existing) FARSIDE_TRY(moved_->forget(vm.id));  // Of one of that id, deleted by hand.
  // Like the overlays, the variables are the guest's own from its first start on.
  if (!existing && !made.nvram.empty()) {
    FARSIDE_TRY(replace_file(made.nvram_path, made.nvram));
  }

  const DomainHandle domain(virDomainDefineXML(connection_.get(), made.xml.c_str()));
  if (!domain) return libvirt_error(fmt::format("create VM '{}'", vm.shape.name));
  if (!vm.start) return {};
  FARSIDE_TRY(check_memory(connection_.get(), domain.get()));
  return start(vm.id);
}

namespace {

// Whether a VM that we do not move needs no view any more, by its images alone.
Status stands_on_files(const DomainShape& shape) {
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk) continue;
    if (const auto chain = state_of_chain(disk.path); !chain) {
      return fail(ErrorCode::kConflict,
                  fmt::format("VM '{}' does not carry Farside's mark any more, and its disk {} may "
                              "still read from its replica: {}",
                              shape.vm.name, disk.name, chain.error().what),
                  fmt::format("copy what it reads there, `virsh blockpull {} {} --wait`, then "
                              "restart the job",
                              shape.vm.name, disk.name));
    }
  }
  return {};
}

}  // namespace

Result<BlockProgress> LibvirtPlatform::detach_view(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto domain, find(vm_id));
  FARSIDE_ASSIGN(const auto shape, shape_of(domain.get()));
  if (shape.is_ours) return moved_->move(domain.get(), shape);
  // Released by an earlier try, or defined anew without its mark by whoever.
  if (!moved_->has(vm_id)) FARSIDE_TRY(stands_on_files(shape));
  return BlockProgress{.finished = true};
}

Status LibvirtPlatform::remove(virDomainPtr domain, const DomainShape& shape,
                               bool delete_overlays) {
  points_->end_backup(domain);
  FARSIDE_TRY(turn_off(domain));
  // Before the domain, which alone says what belongs to it.
  if (delete_overlays) {
    for (const std::string& path : shape.overlays) {
      std::error_code error;
      std::filesystem::remove(path, error);
      if (error) {
        return fail(ErrorCode::kIo, fmt::format("remove {}: {}", path, error.message()));
      }
    }
  }
  // UEFI variables are worth as much as the overlays beside them.
  const unsigned flags = kUndefineFlags | (delete_overlays ? VIR_DOMAIN_UNDEFINE_NVRAM
                                                           : VIR_DOMAIN_UNDEFINE_KEEP_NVRAM);
  if (virDomainUndefineFlags(domain, flags) != 0 && libvirt_error_number() != VIR_ERR_NO_DOMAIN) {
    return libvirt_error(fmt::format("remove VM '{}'", shape.vm.name));
  }
  FARSIDE_TRY(points_->forget(shape.vm.id));
  FARSIDE_TRY(moved_->forget(shape.vm.id));
  return fences_->forget(shape.vm.id);
}

Result<std::string> LibvirtPlatform::release_vm(const std::string& vm_id) {
  FARSIDE_ASSIGN(const auto domain, find(vm_id));
  FARSIDE_ASSIGN(const auto shape, shape_of(domain.get()));
  // A call that was cut short may have taken it off the running VM alone.
  const bool is_marked =
      shape.is_ours ||
      take_text(virDomainGetXMLDesc(domain.get(), VIR_DOMAIN_XML_INACTIVE)).contains(kMarkSpace);
  if (!is_marked) return vm_id;
  if (shape.vm.is_test) return fail(refuse_to_release(shape.vm.name).error());
  unsigned where = VIR_DOMAIN_AFFECT_CONFIG;
  if (virDomainIsActive(domain.get()) == 1) where |= VIR_DOMAIN_AFFECT_LIVE;
  if (virDomainSetMetadata(domain.get(), VIR_DOMAIN_METADATA_ELEMENT, nullptr, nullptr, kMarkSpace,
                           where) != 0) {
    return libvirt_error(fmt::format("take the mark off VM '{}'", shape.vm.name));
  }
  log::info("vm_released", {{"vm", vm_id}, {"name", shape.vm.name}});
  return vm_id;
}

Status LibvirtPlatform::destroy_vm(const std::string& vm_id, bool delete_overlays) {
  const auto domain = find(vm_id);
  if (!domain) {
    if (domain.error().code == ErrorCode::kNotFound) return {};
    return fail(domain.error());
  }
  FARSIDE_ASSIGN(const auto shape, shape_of(domain->get()));
  if (!shape.is_ours) {
    return fail(ErrorCode::kForbidden,
                fmt::format("VM '{}' was not created by Farside", shape.vm.name),
                "remove it with the tools it was created with");
  }
  if (!shape.vm.is_test) return refuse_to_remove(shape.vm.name);
  return remove(domain->get(), shape, delete_overlays);
}

Status LibvirtPlatform::set_fenced(const std::string& vm_id, bool fenced) {
  return fences_->set(vm_id, fenced);
}

Result<std::vector<std::string>> LibvirtPlatform::enforce_fences() {
  return fences_->enforce();
}

Status LibvirtPlatform::clean_up(const std::string& vm_id) {
  const auto domain = find(vm_id);
  if (!domain) {
    if (domain.error().code == ErrorCode::kNotFound) return {};
    return fail(domain.error());
  }
  FARSIDE_TRY(points_->clean_up(domain->get()));
  FARSIDE_ASSIGN(const auto shape, shape_of(domain->get()));
  if (!shape.is_ours || !points_->leftovers().is_going(vm_id)) return {};
  if (!shape.vm.is_test) {  // It may be production, whatever our records say or no longer say.
    log::warn("vm_of_no_item_left_alone", {{"vm", vm_id}, {"name", shape.vm.name}});
    return {};
  }
  log::info("leftover_vm_removed", {{"vm", vm_id}, {"name", shape.vm.name}});
  return remove(domain->get(), shape, /*delete_overlays=*/true);
}

namespace {

Error not_in_order_yet() {
  return {
      .code = ErrorCode::kBusy, .what = "it is put in order after the agent's start", .advice = ""};
}

Error does_not_answer() {
  return {.code = ErrorCode::kTimeout,
          .what =
              "it is not put in order since the agent's start: its QEMU, or another's, does not "
              "answer",
          .advice = "look at that host's guests and their storage; it goes on once they answer"};
}

}  // namespace

// A VM that cannot be put in order, or whose QEMU does not answer, does not keep the others from
// being replicated: as many of them may stand as there are cleaners.  Whoever wants a point of one
// that is not in order yet settles that first.
Status LibvirtPlatform::reconcile(const std::vector<std::string>& vms_to_keep) {
  FARSIDE_ASSIGN(const auto all, domains());
  Leftovers& leftovers = points_->leftovers();
  const auto todo = std::make_shared<Cleaning>();
  for (const DomainHandle& domain : all) {
    const std::string id = uuid_of(domain.get());
    if (std::ranges::find(vms_to_keep, id) == vms_to_keep.end()) leftovers.mark_going(id);
    leftovers.add(id, not_in_order_yet());
    todo->vms.push_back(id);
  }
  std::vector<std::jthread> cleaners;
  for (std::size_t i = 0; i < std::min(kCleanersMax, todo->vms.size()); ++i) {
    cleaners.emplace_back([this, todo](const std::stop_token& stop) { clean(*todo, stop); });
  }
  std::unique_lock lock(todo->mutex);
  if (!todo->ended.wait_for(lock, kReconcileMax,
                            [&] { return todo->done.size() == todo->vms.size(); })) {
    for (const std::string& id : todo->vms) {
      if (todo->done.contains(id)) continue;
      log::error("vm_not_cleaned_up", {{"vm", id}, {"error", does_not_answer()}});
      leftovers.add(id, does_not_answer());
    }
    // They end when their guests answer, or with this.
    std::ranges::move(cleaners, std::back_inserter(cleaners_));
    cleaners.clear();
  }
  lock.unlock();
  points_->remove_stray_files();
  return {};
}

void LibvirtPlatform::clean(Cleaning& todo, const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const std::size_t number = todo.next++;
    if (number >= todo.vms.size()) return;
    const std::string& id = todo.vms[number];
    const auto cleaned =
        points_->leftovers().settle(id, [&](const std::string& vm) { return clean_up(vm); });
    if (!cleaned) log::error("vm_not_cleaned_up", {{"vm", id}, {"error", cleaned.error()}});
    const std::lock_guard lock(todo.mutex);
    todo.done.insert(id);
    todo.ended.notify_all();
  }
}

void LibvirtPlatform::every_moment(const std::stop_token& stop, const std::function<void()>& act) {
  std::mutex alone;  // Guards nothing: it is there to be woken at once by a stop.
  std::unique_lock lock(alone);
  std::condition_variable_any woken;
  while (!woken.wait_for(lock, stop, kKeepPeriod, [&] { return stop.stop_requested(); })) {
    if (connect()) act();
  }
}

void LibvirtPlatform::revive_once() {
  virDomainPtr* list = nullptr;
  const int count =
      virConnectListAllDomains(connection_.get(), &list, VIR_CONNECT_LIST_DOMAINS_PAUSED);
  for (int i = 0; i < count; ++i) {
    const DomainHandle domain(list[i]);
    int state = 0;
    int reason = 0;
    if (virDomainGetState(domain.get(), &state, &reason, 0) != 0) continue;
    if (state != VIR_DOMAIN_PAUSED || reason != VIR_DOMAIN_PAUSED_IOERROR) continue;
    const auto shape = shape_of(domain.get());
    if (!shape || !shape->is_ours || fences_->has(shape->vm.id)) continue;
    log::warn("vm_resumed_after_disk_error", {{"vm", shape->vm.id}, {"name", shape->vm.name}});
    virDomainResume(domain.get());
  }
  std::free(list);
}

// Who can put a link in the place of a scratch image is given by libvirt what it leads to.
void warn_of_open_scratch(const std::string& folder) {
  struct stat facts{};
  if (::stat(folder.c_str(), &facts) != 0 || (facts.st_mode & (S_IWGRP | S_IWOTH)) == 0) return;
  log::warn("others may write scratch_dir",
            {{"folder", folder}, {"next", "chmod go-w; QEMU's sockets have a folder in it"}});
}

}  // namespace

Result<std::unique_ptr<Platform>> open_platform(const Options& given, const Clock& clock) {
  Options options = given;
  if (options.state_dir.empty() || options.scratch_dir.empty()) {
    return fail(ErrorCode::kInvalidArgument, "libvirt: state_dir and scratch_dir must be set");
  }
  constexpr std::size_t kSocketPathMax = sizeof(sockaddr_un::sun_path) - 1;
  const std::string longest(VIR_UUID_STRING_BUFLEN - 1, '0');
  if (socket_of(longest, options.scratch_dir).size() > kSocketPathMax) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("scratch_dir {} is too long for sockets in it", options.scratch_dir),
                "choose a path of at most 60 characters");
  }
  FARSIDE_TRY(make_folders(options.scratch_dir));
  warn_of_open_scratch(options.scratch_dir);
  FARSIDE_ASSIGN(auto networks, Networks::from_options(options.networks));
  if (options.domain_type == "auto") {
    options.domain_type = kvm_boots(options.emulator) ? "kvm" : "qemu";
  }
  if (const auto user = embedded_qemu_user();
      user && options.domain_type == "kvm" && !options.root.empty()) {
    FARSIDE_TRY(check_device("/dev/kvm", *user));
  }
  if (options.domain_type != "kvm" && options.domain_type != "qemu") {
    return fail(ErrorCode::kInvalidArgument, fmt::format("domain type '{}'", options.domain_type),
                "write kvm, qemu or auto");
  }
  FARSIDE_ASSIGN(
      auto session,
      Session::open({.uri = options.uri, .root = options.root, .own_folder = options.own_folder},
                    seconds(options.call_seconds)));
  FARSIDE_ASSIGN(auto points, Points::open({.state_dir = options.state_dir,
                                            .scratch_dir = options.scratch_dir,
                                            .own_folder = options.own_folder,
                                            .reserve_bytes = options.scratch_reserve_bytes},
                                           *session, clock));
  FARSIDE_ASSIGN(auto moved, MovedDisks::open(options.state_dir));
  FARSIDE_ASSIGN(auto fences, Fences::open(options.state_dir, *session));
  return std::make_unique<LibvirtPlatform>(std::move(options), std::move(session),
                                           std::move(networks), std::move(points), std::move(moved),
                                           std::move(fences));
}

}  // namespace farside::agent::libvirt
