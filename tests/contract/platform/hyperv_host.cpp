#include "tests/contract/platform/hyperv_host.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "common/base/file.h"
#include "common/base/random.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/hyperv/vhdx/chain.h"
#include "services/agent/platforms/hyperv/vhdx/local_file.h"
#include "tests/support/guest/domain.h"

namespace farside::agent {
namespace {

using std::chrono::seconds;

constexpr std::uint64_t kMiB = 1U << 20U;
constexpr std::uint64_t kDiskBytes = 16 * kMiB;
constexpr std::uint64_t kAboveBase = kMiB;  // From here on the content is not in the base.
constexpr std::uint32_t kBlockBytes = 64U << 10U;

constexpr const char* kVms = R"([
 {"guid":"5A1B0000-0000-4000-8000-00000000AAAA","name":"witness",
  "arguments":")"
                             "witness.run_id=contract witness.slots=512 witness.fill_mib=3 "
                             "witness.zero_mib=2 witness.pace_ms=10 witness.report_ms=50"
                             R"(",
  "disks":[{"path":"C:\\VMs\\witness\\a.vhdx","mib":16},
           {"path":"C:\\VMs\\witness\\b.vhdx","mib":16}],
  "nics":[{"mac":"00155D000001","switch":"external","vlan":7}]},
 {"guid":"5A1B0000-0000-4000-8000-00000000DEAF","name":"deaf","boot":"nothing",
  "disks":[{"path":"C:\\VMs\\deaf\\a.vhdx","mib":8}]}
])";

// A host that does not work ends the program with its reason: no test could say anything.
void require(bool condition, const std::string& what) {
  if (condition) return;
  fmt::print(stderr, "{}\n", what);
  std::_Exit(1);
}

template <class T>
void require(const Result<T>& result, const char* doing) {
  require(result.has_value(), result ? "" : fmt::format("{}: {}", doing, to_text(result.error())));
}

}  // namespace

HypervHost& HypervHost::shared() {
  static HypervHost host;
  return host;
}

HypervHost::HypervHost() {
  std::ofstream(folder_ / "vms.json") << kVms;
  start_host();
  // Whoever comes over SMB has no rights of root, so that locked disks are locked.
  const std::string drive = folder_ / "host/files/C";
  std::filesystem::create_directories(drive);
  using std::filesystem::perms;
  for (const char* part : {"", "host", "host/files"}) {
    std::filesystem::permissions(folder_ / part,
                                 perms::owner_all | perms::group_exec | perms::others_exec);
  }
  std::filesystem::permissions(drive, perms::all);
  auto samba = test::SambaServer::start(
      {.shares = {{.name = "drive-c", .folder = drive, .as_user = "daemon"}}});
  require(samba, "start smbd");
  samba_ = std::move(*samba);
  open();
  make_base();
}

HypervHost::~HypervHost() {
  platform_.reset();
}

void HypervHost::start_host() {
  const std::string guest = FARSIDE_GUEST_DIR;
  process_ = std::make_unique<hvsim::HvsimProcess>(std::vector<std::string>{
      "--root", folder_ / "host", "--vms", folder_ / "vms.json", "--kernel", guest + "/vmlinuz",
      "--initrd", guest + "/initrd.gz", "--switch", "external", "--switch", "isolated",
      "--guest-arguments", "witness.pace_ms=10 witness.slots=512"});
}

void HypervHost::kill_host() {
  process_->kill();
  start_host();
}

hyperv::Options HypervHost::options() const {
  return hyperv::Options{
      .host_name = "test-host",
      .access = {.target = process_->http(),
                 .kind = wsman::LoginKind::kNegotiate,
                 .login = {.user = hvsim::kUser,
                           .password = hvsim::kPassword,
                           .mechanism = wsman::Mechanism::kNtlm}},
      .smb = {.server = "127.0.0.1",
              .port = samba_->port(),
              .share = {},
              .user = samba_->options().user,
              .password = samba_->options().password},
      .shares = {{.folder = "C:\\", .share = "drive-c"}},
      .folder = R"(C:\Farside)",
      .state_dir = folder_ / "state",
      .storage = {folder_.path()},
      .networks = {
          {"blue", "switch:external"}, {"quiet", "isolated"}, {"red", "switch:external,vlan:7"}}};
}

void HypervHost::open() {
  auto platform = hyperv::open_platform(options(), clock_);
  require(platform, "open the platform");
  platform_ = std::move(*platform);
}

void HypervHost::restart_agent() {
  platform_.reset();
  open();
}

void HypervHost::make_base() {
  SeededRandom random(7);
  while (content_.size() < 2 * kMiB) content_ += random.hex(512);
  auto base = platform_->base_disks()->create(replica_folder_, "vda", kDiskBytes);
  require(base, "create a base disk");
  require((*base)->write_at(0, content_.substr(0, kAboveBase)), "write to a base disk");
  // What lies above hides this.
  require((*base)->write_at(kAboveBase, std::string(kBlockBytes, 'x')), "write to a base disk");
  require((*base)->sync(), "sync a base disk");
}

std::uint64_t HypervHost::acknowledged(const std::string& guid) const {
  return guest::last_reported(folder_ / ("host/serial/" + guid + ".log"), "acknowledged");
}

std::uint64_t HypervHost::write_more(std::uint64_t records) {
  const std::uint64_t wanted = acknowledged() + records;
  for (const Deadline deadline(seconds(90)); acknowledged() < wanted;) {
    require(deadline.pause(), "the witness does not write");
  }
  return acknowledged();
}

void HypervHost::lose_tracking() {
  process_->order(fmt::format(R"({{"do":"lose_tracking","vm":"{}"}})", kWitness));
}

void HypervHost::fail_jobs(int times) {
  process_->order(fmt::format(R"({{"do":"fail_jobs","times":{}}})", times));
}

std::string HypervHost::serial(const std::string& guid) const {
  std::ifstream in(folder_ / ("host/serial/" + guid + ".log"));
  return {std::istreambuf_iterator<char>(in), {}};
}

nlohmann::json HypervHost::state() const {
  std::ifstream in(folder_ / "host/state.json");
  auto state = nlohmann::json::parse(in, nullptr, false);
  require(!state.is_discarded(), "the host's state cannot be read");
  return state;
}

std::vector<std::string> HypervHost::ids_of(const std::string& class_name) const {
  std::vector<std::string> ids;
  const auto all = state();
  for (const auto& object : all.at("objects")) {
    if (object.at("class") != class_name) continue;
    ids.push_back(object.at("properties").at("InstanceID").at("text").get<std::string>());
  }
  return ids;
}

std::size_t HypervHost::open_checkpoints() const {
  return state().value("checkpoints", nlohmann::json::object()).size();
}

std::string HypervHost::guid_of(const std::string& vm_id) const {
  const auto all = state();
  for (const auto& object : all.at("objects")) {
    const auto& properties = object.at("properties");
    const std::string notes = properties.value("Notes", nlohmann::json()).dump();
    if (!notes.contains("farside-vm: " + vm_id)) continue;
    return properties.at("VirtualSystemIdentifier").at("text").get<std::string>();
  }
  return {};
}

std::string HypervHost::file_of(const std::string& windows_path) const {
  std::string path = windows_path.substr(3);
  std::ranges::replace(path, '\\', '/');
  return folder_ / ("host/files/C/" + path);
}

NewVm HypervHost::new_vm(const std::string& name) {
  SystemRandom random;
  const std::string id = random.uuid();
  const auto delta = [this](const VisitRange& visit) -> Status {
    for (std::uint64_t at = kAboveBase; at < content_.size(); at += kBlockBytes) {
      FARSIDE_TRY(visit(at, kBlockBytes, std::string_view(content_).substr(at, kBlockBytes)));
    }
    return {};
  };
  return NewVm{.shape = {.name = name + "-" + id.substr(0, 8),
                         .memory_mib = 128,
                         .processors = 1,
                         .generation = 2,
                         .nics = {{.mac = "00:15:5d:00:01:01", .network = "blue", .address = ""},
                                  {.mac = "00:15:5d:00:01:02", .network = "", .address = ""},
                                  {.mac = "00:15:5d:00:01:03", .network = "quiet", .address = ""},
                                  {.mac = "00:15:5d:00:01:04", .network = "red", .address = ""}}},
               .id = id,
               .item_id = "item-1",
               .is_test = true,
               .start = true,
               .disks = {{.name = "vda",
                          .base_name = "vda",
                          .bytes = kDiskBytes,
                          .replica_folder = replica_folder_,
                          .delta = delta}},
               .serial_log = ""};
}

bool HypervHost::overlay_exists(const NewVm& vm) const {
  return std::filesystem::exists(file_of(R"(C:\Farside\vms\)" + vm.id + "\\vda.vhdx"));
}

// The base stays for it, and the files alone hold the content.
bool HypervHost::overlay_is_complete(const NewVm& vm) const {
  const std::string base = file_of(R"(C:\Farside\replicas\contract-replica)");
  const auto keeper = read_file(base + "/kept-by-vm");
  if (!keeper || *keeper != vm.id) return false;
  auto top = vhdx::LocalFile::open(file_of(R"(C:\Farside\vms\)" + vm.id + "\\vda.vhdx"),
                                   vhdx::LocalFile::Mode::kRead);
  require(top, "open a VM's disk");
  auto chain = vhdx::Chain::open(
      std::move(*top),
      [&](const vhdx::ParentLocator& locator) -> Result<std::unique_ptr<hyperv::ByteFile>> {
        if (!locator.relative_path.contains("base-vda.vhdx")) {
          return fail(ErrorCode::kNotFound, "another parent: " + locator.relative_path);
        }
        return vhdx::LocalFile::open(base + "/base-vda.vhdx", vhdx::LocalFile::Mode::kRead);
      });
  require(chain, "open a VM's disk");
  std::string found(kDiskBytes, '?');
  require((*chain)->read_at(0, found), "read a VM's disk");
  std::string wanted = content_;
  wanted.resize(kDiskBytes, '\0');
  return found == wanted;
}

}  // namespace farside::agent
