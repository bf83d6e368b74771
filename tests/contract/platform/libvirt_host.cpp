#include "tests/contract/platform/libvirt_host.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <libvirt/libvirt-qemu.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "common/base/random.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/program.h"

namespace farside::agent {
namespace {

using std::chrono::seconds;

constexpr std::uint64_t kDiskBytes = 16U << 20U;

// Ends whatever runs under a root, also where libvirt cannot be asked any more.
void kill_guests(const std::filesystem::path& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "root/run/qemu", error)) {
    if (entry.path().extension() != ".pid" || entry.path().stem() == "driver") continue;
    pid_t pid = 0;
    std::ifstream(entry.path()) >> pid;
    std::ifstream words("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
    const std::string line((std::istreambuf_iterator<char>(words)), {});
    // The number may belong to somebody else by now.
    if (pid > 0 && line.contains(folder.string())) ::kill(pid, SIGKILL);
  }
}

std::filesystem::path current_folder;  // Of the one host of this process.

// A host that does not work ends the program with its reason: no test could say anything.
void require(bool condition, const std::string& what) {
  if (condition) return;
  fmt::print(stderr, "{}\n", what);
  kill_guests(current_folder);
  std::_Exit(1);
}

template <class T>
void require(const Result<T>& result, const char* doing) {
  require(result.has_value(), result ? "" : fmt::format("{}: {}", doing, to_text(result.error())));
}

std::filesystem::path new_folder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "farside.XXXXXX").string();
  require(::mkdtemp(pattern.data()) != nullptr, "no temporary directory");
  return pattern;
}

}  // namespace

LibvirtHost& LibvirtHost::shared() {
  static LibvirtHost host;
  return host;
}

LibvirtHost::LibvirtHost() : LibvirtHost(new_folder()) {}

LibvirtHost::LibvirtHost(std::filesystem::path folder) : folder_(std::move(folder)) {
  current_folder = folder_;
  const bool is_new = std::filesystem::is_empty(folder_);
  options_ = libvirt::Options{
      .uri = "",
      .root = path("root"),
      .host_name = "test-host",
      .own_folder = "",
      .state_dir = path("state"),
      .scratch_dir = path("scratch"),
      .scratch_reserve_bytes = 16U << 20U,
      .storage = {folder_.string()},
      .networks = {{"blue", "user"}, {"quiet", "isolated"}, {"gone", "bridge:fs-gone"}},
      .boot_folder = guest::place_guest(FARSIDE_GUEST_DIR, folder_),
      .guest_start_seconds = 0,
      .domain_type = "qemu"};
  auto connection = libvirt::open_connection({.uri = "", .root = options_.root});
  require(connection, "open the host");
  connection_ = std::move(*connection);

  view_image_ = path("view.raw");
  if (is_new) define_guests();
  open();
  if (!is_new) return;
  require(platform_->start(kWitness), "start the witness");
  make_view();
}

LibvirtHost::~LibvirtHost() {
  platform_.reset();
  connection_.reset();
  kill_guests(folder_);
  while (!servers_.empty()) stop_serving(servers_.begin()->first);
  std::error_code error;
  if (std::getenv("FARSIDE_KEEP") == nullptr) std::filesystem::remove_all(folder_, error);
}

void LibvirtHost::make_view() {
  SeededRandom random(7);
  std::string content;
  while (content.size() < 2U << 20U) content += random.hex(512);
  std::ofstream(view_image_, std::ios::binary) << content;
  std::filesystem::resize_file(view_image_, kDiskBytes);
  view_socket_ = serve(view_image_, "raw");
}

void LibvirtHost::define_guests() {
  guest::WitnessVm witness{.name = "witness",
                           .id = kWitness,
                           .guest_dir = options_.boot_folder,
                           .disks = {path("witness-a.qcow2"), path("witness-b.qcow2")},
                           .serial_log = path("witness.log"),
                           .options = {{"run_id", "contract"},
                                       {"slots", "512"},
                                       {"fill_mib", "3"},
                                       {"zero_mib", "2"},
                                       {"pace_ms", "10"},
                                       {"report_ms", "50"}}};
  define(witness);
  define({.name = "deaf", .id = kDeaf, .guest_dir = "", .disks = {path("deaf.qcow2")}});
}

void LibvirtHost::define(const guest::WitnessVm& vm) {
  for (const std::string& disk : vm.disks) {
    require(guest::create_qcow2(disk, kDiskBytes), "create a disk");
  }
  const libvirt::DomainHandle domain(
      virDomainDefineXML(connection_.get(), guest::to_xml(vm).c_str()));
  if (!domain) require(Status(libvirt::libvirt_error("define")), "define a VM");
}

void LibvirtHost::open() {
  auto platform = libvirt::open_platform(options_, clock_);
  require(platform, "open the platform");
  platform_ = std::move(*platform);
}

void LibvirtHost::restart_agent() {
  platform_.reset();
  open();
}

std::uint64_t LibvirtHost::acknowledged() const {
  return guest::last_reported(path("witness.log"), "acknowledged");
}

std::uint64_t LibvirtHost::write_more(std::uint64_t records) {
  const std::uint64_t wanted = acknowledged() + records;
  for (const Deadline deadline(seconds(60)); acknowledged() < wanted;) {
    require(deadline.pause(), "the witness does not write; see " + path("witness.log"));
  }
  return acknowledged();
}

pid_t LibvirtHost::pid_of(virConnectPtr connection, const std::string& root,
                          const std::string& id) {
  const libvirt::DomainHandle domain(virDomainLookupByUUIDString(connection, id.c_str()));
  const std::string name = domain ? virDomainGetName(domain.get()) : "";
  std::ifstream file(root + "/run/qemu/" + name + ".pid");
  pid_t pid = 0;
  file >> pid;
  return pid;
}

std::string LibvirtHost::ask_qemu(const std::string& query) {
  const libvirt::DomainHandle domain(virDomainLookupByUUIDString(connection_.get(), kWitness));
  const std::string command = "{\"execute\": \"" + query + "\"}";
  char* answer = nullptr;
  if (!domain || virDomainQemuMonitorCommand(domain.get(), command.c_str(), &answer, 0) != 0) {
    return {};
  }
  const std::unique_ptr<char, decltype(&std::free)> owner(answer, std::free);
  return answer;
}

void LibvirtHost::lose_tracking() {
  const pid_t pid = pid_of(connection_.get(), options_.root, kWitness);
  require(pid > 0, "no process of the witness under " + options_.root);
  ::kill(pid, SIGKILL);
  const libvirt::DomainHandle domain(virDomainLookupByUUIDString(connection_.get(), kWitness));
  for (const Deadline deadline(seconds(20)); virDomainIsActive(domain.get()) == 1;) {
    require(deadline.pause(), "libvirt does not notice that the witness was killed");
  }
  require(platform_->start(kWitness), "start the witness again");
}

std::string LibvirtHost::serve(const std::string& image, const std::string& format) {
  const std::string socket = path(fmt::format("view-{}.sock", served_++));
  serve_again(socket, image, format);
  return socket;
}

void LibvirtHost::serve_again(const std::string& socket, const std::string& image,
                              const std::string& format) {
  std::filesystem::remove(socket);
  const pid_t pid = ::fork();
  require(pid >= 0, "no process for qemu-nbd");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // A test that is killed leaves no server behind.
    ::execlp("qemu-nbd", "qemu-nbd", "--read-only", "--persistent", "--shared=0",
             "--export-name=view", ("--format=" + format).c_str(), ("--socket=" + socket).c_str(),
             image.c_str(), nullptr);
    ::_exit(127);
  }
  servers_[socket] = pid;
  for (const Deadline deadline(seconds(20)); !std::filesystem::exists(socket);) {
    require(deadline.pause(), "qemu-nbd does not serve " + image);
  }
  if (platform_) require(platform_->share_view(socket), "share a view");
}

void LibvirtHost::stop_serving(const std::string& socket) {
  const auto server = servers_.find(socket);
  if (server == servers_.end()) return;
  ::kill(server->second, SIGTERM);
  ::waitpid(server->second, nullptr, 0);
  servers_.erase(server);
}

std::ptrdiff_t LibvirtHost::scratch_files() const {
  const std::filesystem::recursive_directory_iterator all(folder_ / "scratch");
  return std::ranges::count_if(all, [](const auto& entry) { return !entry.is_directory(); });
}

std::uint64_t LibvirtHost::reported(const std::string& log, const std::string& what) const {
  return guest::last_reported(path(log), what);
}

NewVm LibvirtHost::new_vm(const std::string& name) {
  SystemRandom random;
  const std::string id = random.uuid();
  return NewVm{.shape = {.name = name + "-" + id.substr(0, 8),
                         .memory_mib = 32,
                         .processors = 1,
                         .generation = 1,
                         .nics = {{.mac = "52:54:00:00:00:01", .network = "blue", .address = ""},
                                  {.mac = "52:54:00:00:00:02", .network = "", .address = ""},
                                  {.mac = "52:54:00:00:00:03", .network = "quiet", .address = ""}}},
               .id = id,
               .item_id = "item-1",
               .is_test = true,
               .start = true,
               .disks = {{.name = "vda",
                          .bytes = kDiskBytes,
                          .overlay_path = path("overlays/" + id + "-vda.qcow2"),
                          .nbd_socket = view_socket_,
                          .nbd_export = "view"}},
               .serial_log = ""};
}

bool LibvirtHost::overlay_exists(const NewVm& vm) const {
  return std::filesystem::exists(vm.disks[0].overlay_path);
}

bool LibvirtHost::overlay_is_complete(const NewVm& vm) const {
  const auto outcome = libvirt::run_program(
      {"qemu-img", "info", "--force-share", "--output=json", vm.disks[0].overlay_path},
      seconds(30));
  require(outcome, "look at an overlay");
  if (outcome->output.contains("backing-filename")) return false;
  const auto compared = libvirt::run_program({"qemu-img", "compare", "-q", "-f", "raw", "-F",
                                              "qcow2", view_image_, vm.disks[0].overlay_path},
                                             seconds(60));
  return compared && compared->exit_code == 0;
}

}  // namespace farside::agent
