#include "tests/integration/hvsim/real_host_world.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace farside::hvsim {

using wsman::Instance;
using wsman::Reference;
using wsman::Value;

namespace {

constexpr const char* kVms = R"([
 {"guid":"5A1B0000-0000-4000-8000-00000000AAAA","name":"witness","running":true,
  "arguments":"witness.pace_ms=10 witness.slots=256 witness.fill_mib=2",
  "disks":[{"path":"C:\\VMs\\witness\\a.vhdx","mib":32},
           {"path":"C:\\VMs\\witness\\b.vhdx","mib":48}],
  "nics":[{"mac":"00155D000001","switch":"external","vlan":7}]},
 {"guid":"5A1B0000-0000-4000-8000-00000000DEAF","name":"deaf","boot":"nothing",
  "disks":[{"path":"C:\\VMs\\deaf\\a.vhdx","mib":8}]}
])";

}  // namespace

RealHostWorld::RealHostWorld() {
  std::ofstream(folder_ / "vms.json") << kVms;
  start();
}

void RealHostWorld::start() {
  const std::string guest = FARSIDE_GUEST_DIR;
  process_ = std::make_unique<HvsimProcess>(std::vector<std::string>{
      "--root", folder_ / "host", "--vms", folder_ / "vms.json", "--kernel", guest + "/vmlinuz",
      "--initrd", guest + "/initrd.gz", "--switch", "external", "--switch", "isolated",
      "--guest-arguments", "witness.pace_ms=10 witness.slots=256"});
  auto channel = wsman::LoginChannel::open(
      process_->http(), wsman::LoginKind::kNegotiate,
      {.user = kUser, .password = kPassword, .mechanism = wsman::Mechanism::kNtlm});
  EXPECT_TRUE(channel);
  client_ = std::make_unique<wsman::Client>(wsman::ClientOptions{.url = process_->http_url()},
                                            std::move(*channel), random_);
}

void RealHostWorld::kill_and_start_again() {
  process_->kill();
  start();
}

void RealHostWorld::stop_and_start_again() {
  process_.reset();
  start();
}

Reference RealHostWorld::vm(const std::string& guid) {
  return {.class_name = "Msvm_ComputerSystem",
          .keys = {{"CreationClassName", "Msvm_ComputerSystem"}, {"Name", guid}}};
}

Result<wsman::CallOutcome> RealHostWorld::call(const Reference& object, const std::string& method,
                                               const wsman::Parameters& parameters) {
  const wsman::JobWait wait{
      .clock = clock_,
      .pause = [](Micros time) { ::poll(nullptr, 0, static_cast<int>(time.count() / 1000)); },
      .within = Micros{120'000'000},
      .interval = Micros{50'000}};
  return wsman::call(*client_, object, method, parameters, wait);
}

Status RealHostWorld::request_state(const std::string& guid, std::uint16_t state) {
  FARSIDE_TRY(call(vm(guid), "RequestStateChange", {{"RequestedState", Value::u16(state)}}));
  return {};
}

std::uint64_t RealHostWorld::state(const std::string& guid) {
  const auto found = client_->get(vm(guid));
  return found ? found->number_or("EnabledState", 0) : 0;
}

std::string RealHostWorld::serial(const std::string& guid) const {
  std::ifstream in(folder_ / ("host/serial/" + guid + ".log"));
  return {std::istreambuf_iterator<char>(in), {}};
}

std::uint64_t RealHostWorld::acknowledged(const std::string& guid) const {
  const std::string said = serial(guid);
  const std::string words = "witness: acknowledged seq=";
  const std::size_t at = said.rfind(words);
  return at == std::string::npos ? 0 : std::strtoull(said.c_str() + at + words.size(), nullptr, 10);
}

bool RealHostWorld::wait_until(const std::function<bool()>& is_so) {
  for (int i = 0; i < 2'400; ++i) {
    if (is_so()) return true;
    ::poll(nullptr, 0, 50);
  }
  return false;
}

std::uint64_t RealHostWorld::write_more(std::uint64_t records) {
  const std::uint64_t wanted = acknowledged() + records;
  return wait_until([&] { return acknowledged() >= wanted; }) ? acknowledged() : 0;
}

Result<Instance> RealHostWorld::checkpoint(const std::string& guid, std::uint8_t consistency) {
  const Instance settings{"Msvm_VirtualSystemSnapshotSettingData",
                          {{"ConsistencyLevel", Value::u8(consistency)},
                           {"GuestBackupType", Value::u8(2)},
                           {"IgnoreNonSnapshottableDisks", Value::flag(true)}}};
  FARSIDE_ASSIGN(const auto done,
                 call(wsman::service("Msvm_VirtualSystemSnapshotService"), "CreateSnapshot",
                      {{"AffectedSystem", Value::reference(vm(guid))},
                       {"SnapshotSettings", Value::embedded(settings)},
                       {"SnapshotType", Value::u16(32768)}}));
  FARSIDE_ASSIGN(const std::vector<Instance> made,
                 wsman::affected_elements(*client_, done.job, "Msvm_VirtualSystemSettingData"));
  if (made.size() != 1) return fail(ErrorCode::kPlatform, "no checkpoint came of it");
  return made[0];
}

std::vector<std::string> RealHostWorld::frozen(const Instance& checkpoint) {
  std::vector<std::string> paths;
  const auto disks = client_->associators({.class_name = checkpoint.class_name,
                                           .keys = {{"InstanceID", checkpoint.text("InstanceID")}}},
                                          "Msvm_VirtualSystemSettingDataComponent",
                                          "Msvm_StorageAllocationSettingData");
  EXPECT_TRUE(disks) << to_text(disks.error());
  for (const Instance& one : *disks) paths.push_back(one.texts("HostResource").at(0));
  std::ranges::sort(paths);
  return paths;
}

Result<Instance> RealHostWorld::convert(const Instance& checkpoint) {
  const Reference reference{.class_name = checkpoint.class_name,
                            .keys = {{"InstanceID", checkpoint.text("InstanceID")}}};
  FARSIDE_ASSIGN(const auto done, call(wsman::service("Msvm_VirtualSystemSnapshotService"),
                                       "ConvertToReferencePoint",
                                       {{"AffectedSnapshot", Value::reference(reference)}}));
  FARSIDE_ASSIGN(const std::vector<Instance> made,
                 wsman::affected_elements(*client_, done.job, "Msvm_VirtualSystemReferencePoint"));
  if (made.size() != 1) return fail(ErrorCode::kPlatform, "no reference point came of it");
  return made[0];
}

std::vector<Instance> RealHostWorld::reference_points(const std::string& guid) {
  return client_
      ->associators(vm(guid), "Msvm_ReferencePointOfVirtualSystem",
                    "Msvm_VirtualSystemReferencePoint")
      .value_or(std::vector<Instance>{});
}

Result<std::vector<wsman::ChangedRange>> RealHostWorld::changes(const std::string& path,
                                                                const std::string& since) {
  FARSIDE_ASSIGN(const Instance info,
                 client_->invoke(wsman::service("Msvm_ImageManagementService"),
                                 "GetVirtualHardDiskSettingData", {{"Path", Value::text(path)}}));
  FARSIDE_ASSIGN(const std::vector<Instance> settings, info.instances("SettingData"));
  const wsman::JobWait wait{.clock = clock_, .pause = [](Micros time) {
                              ::poll(nullptr, 0, static_cast<int>(time.count() / 1000));
                            }};
  return wsman::changed_ranges(
      *client_,
      {.path = path, .since = since, .disk_bytes = settings.at(0).number_or("MaxInternalSize", 0)},
      wait);
}

std::string RealHostWorld::file_of(const std::string& windows_path) const {
  std::string rest = windows_path.substr(3);
  std::ranges::replace(rest, '\\', '/');
  return folder_ / ("host/files/C/" + rest);
}

std::string RealHostWorld::raw_copy(const std::string& windows_path, const std::string& name) {
  const std::string copy = folder_ / (name + ".vhdx");
  const std::string raw = folder_ / (name + ".raw");
  const std::string command =
      fmt::format("cp '{}' '{}' && qemu-img convert -f vhdx -O raw '{}' '{}'",
                  file_of(windows_path), copy, copy, raw);
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  return raw;
}

guest::Verdict RealHostWorld::check(const std::vector<std::string>& raw,
                                    std::uint64_t acknowledged) {
  std::vector<std::unique_ptr<guest::Image>> disks;
  for (const std::string& one : raw) {
    auto image = guest::open_image(one);
    EXPECT_TRUE(image) << to_text(image.error());
    if (!image) return {};
    disks.push_back(std::move(*image));
  }
  const auto verdict = guest::check(disks, {.acknowledged = acknowledged});
  EXPECT_TRUE(verdict) << to_text(verdict.error());
  return verdict.value_or(guest::Verdict{});
}

}  // namespace farside::hvsim
