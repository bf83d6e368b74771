// Msvm_ImageManagementService: what files of disks are, and what was written on them.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "services/agent/platforms/hyperv/vhdx/image.h"
#include "services/agent/platforms/hyperv/vhdx/local_file.h"
#include "services/agent/platforms/hyperv/vhdx/new_image.h"
#include "tests/support/hvsim/real_host.h"
#include "tests/support/hvsim/vhdx_shape.h"

namespace farside::hvsim {
namespace {

namespace fs = std::filesystem;
namespace vhdx = agent::vhdx;

constexpr std::uint64_t kFailed = 32768;
constexpr std::uint64_t kNotSupported = 32770;
constexpr std::uint64_t kInvalidParameter = 32773;
constexpr std::uint64_t kNoFile = 32779;
constexpr std::uint64_t kDifferencing = 4;

Result<MethodResult> changes(RealHost& host, const MethodCall& call) {
  const Instance parameters = call.as_instance();
  const std::string path = parameters.text("Path");
  {
    const std::lock_guard lock(host.faults.mutex);
    if (host.faults.tracking_lost.contains(path)) return MethodResult{.return_value = kFailed};
  }
  FARSIDE_ASSIGN(const std::string file, host.files.file_of(path));
  const auto shape = read_vhdx_shape(file);
  if (!shape) return MethodResult{.return_value = kNoFile};
  const std::uint64_t begin = parameters.number_or("ByteOffset", 0);
  const std::uint64_t end = begin + parameters.number_or("ByteLength", 0);
  if (begin >= end || end > shape->bytes) return MethodResult{.return_value = kInvalidParameter};
  const auto question = host.checkpoints.question_for(path);
  if (!question) return MethodResult{.return_value = kFailed};
  const auto written =
      host.state.tracking_of(question->base).between(parameters.text("LimitId"), question->until);
  if (!written) return MethodResult{.return_value = kFailed};
  std::vector<Value> offsets;
  std::vector<Value> lengths;
  for (const Range& one : clip(*written, {begin, end})) {
    offsets.push_back(Value::u64(one.begin));
    lengths.push_back(Value::u64(one.end - one.begin));
  }
  return MethodResult{.return_value = 0,
                      .outputs = {{"ProcessedByteLength", Value::u64(end - begin)},
                                  {"ChangedByteOffsets", Value::list(std::move(offsets))},
                                  {"ChangedByteLengths", Value::list(std::move(lengths))}}};
}

Result<MethodResult> settings(RealHost& host, const MethodCall& call) {
  const std::string path = call.as_instance().text("Path");
  const auto file = host.files.file_of(path);
  if (!file || !fs::exists(*file)) return MethodResult{.return_value = kNoFile};
  const auto shape = read_vhdx_shape(*file);
  if (!shape) return MethodResult{.return_value = kFailed};
  const std::uint16_t type = shape->has_parent ? 4 : shape->is_fixed ? 2 : 3;
  const Instance data{
      "Msvm_VirtualHardDiskSettingData",
      {{"InstanceID", Value::text(path)},
       {"ElementName", Value::text(fs::path(*file).filename())},
       {"Type", Value::u16(type)},
       {"Format", Value::u16(3)},
       {"Path", Value::text(path)},
       {"ParentPath", shape->has_parent ? Value::text(shape->parent_path) : Value::null()},
       {"MaxInternalSize", Value::u64(shape->bytes)},
       {"BlockSize", Value::u32(shape->block_bytes)},
       {"LogicalSectorSize", Value::u32(shape->logical_sector_bytes)},
       {"PhysicalSectorSize", Value::u32(shape->physical_sector_bytes)},
       {"VirtualDiskId", Value::text(shape->disk_id)}}};
  return MethodResult{.return_value = 0, .outputs = {{"SettingData", Value::embedded(data)}}};
}

Result<MethodResult> state(RealHost& host, const MethodCall& call) {
  const std::string path = call.as_instance().text("Path");
  const auto file = host.files.file_of(path);
  if (!file || !fs::exists(*file)) return MethodResult{.return_value = kNoFile};
  const auto shape = read_vhdx_shape(*file);
  if (!shape) return MethodResult{.return_value = kFailed};
  bool is_in_use = false;
  for (const std::string& guid : host.vms.guids()) {
    if (!host.machines.has_process(guid)) continue;
    for (const std::string& base : host.machines.bases_of(guid)) {
      is_in_use = is_in_use || lower_case(base) == lower_case(path);
    }
  }
  const Instance data{"Msvm_VirtualHardDiskState",
                      {{"FileSize", Value::u64(fs::file_size(*file))},
                       {"InUse", Value::flag(is_in_use)},
                       {"MinInternalSize", Value::null()},
                       {"PhysicalSectorSize", Value::u32(shape->physical_sector_bytes)},
                       {"Alignment", Value::u32(1)},
                       {"FragmentationPercentage", Value::u32(0)}}};
  return MethodResult{.return_value = 0, .outputs = {{"State", Value::embedded(data)}}};
}

// On top of a file beside it or elsewhere on the same drive.
Status make_child(RealHost& host, const Instance& wanted, const std::string& file) {
  const std::string parent_path = wanted.text("ParentPath");
  FARSIDE_ASSIGN(const std::string parent_file, host.files.file_of(parent_path));
  FARSIDE_ASSIGN(auto bytes, vhdx::LocalFile::open(parent_file, vhdx::LocalFile::Mode::kRead));
  FARSIDE_ASSIGN(const auto parent, vhdx::Image::open(std::move(bytes)));
  std::string relative = fs::path(parent_file).lexically_relative(fs::path(file).parent_path());
  std::ranges::replace(relative, '/', '\\');
  FARSIDE_ASSIGN(const auto child, vhdx::LocalFile::open(file, vhdx::LocalFile::Mode::kCreate));
  SystemRandom random;
  return vhdx::create(*child, vhdx::child_of(*parent, relative, R"(\\?\)" + parent_path), random);
}

Status make_disk(RealHost& host, const Instance& wanted, const std::string& file) {
  if (fs::exists(file)) return fail(ErrorCode::kAlreadyExists, wanted.text("Path") + " exists");
  if (wanted.number_or("Type", 3) == kDifferencing) return make_child(host, wanted, file);
  const bool is_fixed = wanted.number_or("Type", 3) == 2;
  // Without block_state_zero=off a fixed file would grow as it is written.
  std::string options = is_fixed ? "subformat=fixed,block_state_zero=off" : "subformat=dynamic";
  if (const std::uint64_t block = wanted.number_or("BlockSize", 0); block != 0) {
    options += fmt::format(",block_size={}", block);
  }
  return run_tool(host.spawner,
                  {"qemu-img", "create", "-q", "-f", "vhdx", "-o", options, file,
                   std::to_string(wanted.number_or("MaxInternalSize", 0))},
                  host.files.run() + "/qemu-img.log");
}

Result<MethodResult> create(RealHost& host, const MethodCall& call) {
  FARSIDE_ASSIGN(const std::vector<Instance> given,
                 call.as_instance().instances("VirtualDiskSettings"));
  if (given.size() != 1 || given[0].class_name != "Msvm_VirtualHardDiskSettingData") {
    return MethodResult{.return_value = kInvalidParameter};
  }
  const Instance& wanted = given[0];
  const std::uint64_t type = wanted.number_or("Type", 0);
  if (wanted.number_or("Format", 0) != 3) {
    return MethodResult{.return_value = kNotSupported};
  }
  const auto file = host.files.file_of(wanted.text("Path"));
  const std::uint64_t bytes = wanted.number_or("MaxInternalSize", 0);
  // The size of a differencing disk is its parent's.
  const bool is_size = type == kDifferencing
                           ? host.files.file_of(wanted.text("ParentPath")) && bytes == 0
                           : bytes != 0 && bytes % 512 == 0;
  if (!file || type < 2 || type > kDifferencing || !is_size) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  return host.jobs.start("Creating a virtual hard disk", call.target,
                         [&host, wanted, file = *file]() -> Result<std::vector<Reference>> {
                           FARSIDE_TRY(make_disk(host, wanted, file));
                           return std::vector<Reference>{};
                         });
}

}  // namespace

void add_image_methods(Methods& methods, RealHost& host) {
  const std::string images = "Msvm_ImageManagementService/";
  methods[images + "GetVirtualDiskChanges"] = {
      .shape = {{.name = "Path", .is_required = true},
                {.name = "LimitId", .is_required = true},
                {.name = "TargetSnapshotId"},
                {.name = "ByteOffset", .kind = ParameterKind::kNumber, .is_required = true},
                {.name = "ByteLength", .kind = ParameterKind::kNumber, .is_required = true}},
      .handler = [&host](const MethodCall& call) { return changes(host, call); }};
  methods[images + "GetVirtualHardDiskSettingData"] = {
      .shape = {{.name = "Path", .is_required = true}},
      .handler = [&host](const MethodCall& call) { return settings(host, call); }};
  methods[images + "GetVirtualHardDiskState"] = {
      .shape = {{.name = "Path", .is_required = true}},
      .handler = [&host](const MethodCall& call) { return state(host, call); }};
  methods[images + "CreateVirtualHardDisk"] = {
      .shape = {{.name = "VirtualDiskSettings",
                 .kind = ParameterKind::kEmbedded,
                 .is_required = true}},
      .handler = [&host](const MethodCall& call) { return create(host, call); }};
}

}  // namespace farside::hvsim
