// Msvm_VirtualSystemSnapshotService and Msvm_VirtualSystemReferencePointService.
#include "tests/support/hvsim/real_host.h"

namespace farside::hvsim {
namespace {

constexpr std::uint64_t kInvalidParameter = 32773;
constexpr std::uint64_t kInvalidState = 32775;
constexpr std::uint64_t kNotSupported = 32770;
constexpr std::uint64_t kRecovery = 32768;
constexpr std::uint64_t kApplications = 1;

// A reference to settings of a recovery checkpoint: its GUID, or nothing.
std::string checkpoint_of(RealHost& host, const Instance& parameters, const char* name) {
  const auto reference = parameters.reference(name);
  if (!reference) return {};
  const Instance* settings = host.objects.find(*reference);
  if (settings == nullptr ||
      settings->text("VirtualSystemType") != "Microsoft:Hyper-V:Snapshot:Recovery") {
    return {};
  }
  return settings->text("ConfigurationID");
}

Result<MethodResult> create(RealHost& host, const MethodCall& call) {
  const Instance parameters = call.as_instance();
  FARSIDE_ASSIGN(const Reference system, parameters.reference("AffectedSystem"));
  if (parameters.number_or("SnapshotType", 0) != kRecovery) {
    return MethodResult{.return_value = kNotSupported};
  }
  const std::string guid = system.key("Name");
  if (system.class_name != "Msvm_ComputerSystem" || host.vms.system(guid) == nullptr) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  std::uint64_t consistency = kApplications;
  if (!parameters.text("SnapshotSettings").empty() ||
      !parameters.at("SnapshotSettings").is_null()) {
    FARSIDE_ASSIGN(const std::vector<Instance> settings, parameters.instances("SnapshotSettings"));
    if (settings.empty() || settings[0].class_name != "Msvm_VirtualSystemSnapshotSettingData") {
      return MethodResult{.return_value = kInvalidParameter};
    }
    consistency = settings[0].number_or("ConsistencyLevel", kApplications);
    if (consistency != 1 && consistency != 2) {
      return MethodResult{.return_value = kInvalidParameter};
    }
  }
  const std::uint16_t state = host.vms.state(guid);
  if (state != kRunning && state != kOff && state != kPaused && state != kSaved) {
    return MethodResult{.return_value = kInvalidState};
  }
  return host.jobs.start("Creating a checkpoint", system,
                         [&host, guid, consistency]() -> Result<std::vector<Reference>> {
                           FARSIDE_ASSIGN(Reference made,
                                          host.checkpoints.create(guid, consistency));
                           return std::vector{made};
                         });
}

Result<MethodResult> convert(RealHost& host, const MethodCall& call) {
  const Instance parameters = call.as_instance();
  const std::string id = checkpoint_of(host, parameters, "AffectedSnapshot");
  // Real hosts fail if any settings are given.
  if (id.empty() || !parameters.at("ReferencePointSettings").is_null()) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  return host.jobs.start("Converting a checkpoint", *parameters.reference("AffectedSnapshot"),
                         [&host, id]() -> Result<std::vector<Reference>> {
                           FARSIDE_ASSIGN(Reference made, host.checkpoints.convert(id));
                           return std::vector{made};
                         });
}

Result<MethodResult> destroy(RealHost& host, const MethodCall& call) {
  const Instance parameters = call.as_instance();
  const std::string id = checkpoint_of(host, parameters, "AffectedSnapshot");
  if (id.empty()) return MethodResult{.return_value = kInvalidParameter};
  return host.jobs.start("Merging a checkpoint", *parameters.reference("AffectedSnapshot"),
                         [&host, id]() -> Result<std::vector<Reference>> {
                           FARSIDE_TRY(host.checkpoints.destroy(id));
                           return std::vector<Reference>{};
                         });
}

Result<MethodResult> destroy_reference_point(RealHost& host, const MethodCall& call) {
  FARSIDE_ASSIGN(const Reference point, call.as_instance().reference("AffectedReferencePoint"));
  if (point.class_name != "Msvm_VirtualSystemReferencePoint" ||
      host.objects.find(point) == nullptr) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  return host.jobs.start("Removing a reference point", point,
                         [&host, point]() -> Result<std::vector<Reference>> {
                           FARSIDE_TRY(host.checkpoints.destroy_reference_point(point));
                           return std::vector<Reference>{};
                         });
}

}  // namespace

void add_checkpoint_methods(Methods& methods, RealHost& host) {
  const std::string snapshots = "Msvm_VirtualSystemSnapshotService/";
  methods[snapshots + "CreateSnapshot"] = {
      .shape = {{.name = "AffectedSystem", .kind = ParameterKind::kReference, .is_required = true},
                {.name = "SnapshotSettings", .kind = ParameterKind::kEmbedded},
                {.name = "SnapshotType", .kind = ParameterKind::kNumber, .is_required = true},
                {.name = "ResultingSnapshot", .kind = ParameterKind::kReference}},
      .handler = [&host](const MethodCall& call) { return create(host, call); }};
  methods[snapshots + "ConvertToReferencePoint"] = {
      .shape = {{.name = "AffectedSnapshot",
                 .kind = ParameterKind::kReference,
                 .is_required = true},
                {.name = "ReferencePointSettings", .kind = ParameterKind::kEmbedded},
                {.name = "ResultingReferencePoint", .kind = ParameterKind::kReference}},
      .handler = [&host](const MethodCall& call) { return convert(host, call); }};
  methods[snapshots + "DestroySnapshot"] = {
      .shape = {{.name = "AffectedSnapshot",
                 .kind = ParameterKind::kReference,
                 .is_required = true}},
      .handler = [&host](const MethodCall& call) { return destroy(host, call); }};
  methods["Msvm_VirtualSystemReferencePointService/DestroyReferencePoint"] = {
      .shape = {{.name = "AffectedReferencePoint",
                 .kind = ParameterKind::kReference,
                 .is_required = true}},
      .handler = [&host](const MethodCall& call) { return destroy_reference_point(host, call); }};
}

}  // namespace farside::hvsim
