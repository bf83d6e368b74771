// Msvm_VirtualSystemManagementService: systems, and the devices that their settings are made of.
#include <fmt/format.h>

#include "tests/support/hvsim/device_builder.h"
#include "tests/support/hvsim/known_properties.h"
#include "tests/support/hvsim/real_host.h"
#include "tests/support/hvsim/settings_change.h"

namespace farside::hvsim {
namespace {

// Settings of a VM itself, which may be changed, not of a checkpoint.
Instance* own_settings(RealHost& host, const Reference& reference) {
  Instance* found = reference.class_name == "Msvm_VirtualSystemSettingData"
                        ? host.objects.find(reference)
                        : nullptr;
  return found != nullptr && host.vms.is_realized(*found) ? found : nullptr;
}

// Devices come and go only while a VM is off, and has no checkpoint to be merged.
bool is_at_rest(RealHost& host, const Instance& settings) {
  const std::string guid = settings.text("VirtualSystemIdentifier");
  return host.vms.state(guid) == kOff && !host.state.checkpoints.contains(guid);
}

void merge_into(Instance& target, const Instance& given) {
  for (const auto& [name, value] : given.properties) {
    if (name != "InstanceID") target.properties[name] = value;
  }
}

Status change_resource(RealHost& host, const Instance& given) {
  Instance* part = host.objects.find(
      {.class_name = given.class_name, .keys = {{"InstanceID", given.text("InstanceID")}}});
  const Instance* settings = part == nullptr ? nullptr : host.vms.settings_of(*part);
  if (settings == nullptr || given.text("InstanceID").empty() || !host.vms.is_realized(*settings)) {
    return fail(ErrorCode::kInvalidArgument, "no such device: " + given.text("InstanceID"));
  }
  if (const std::string name = unknown_property(given); !name.empty()) {
    return fail(ErrorCode::kInvalidArgument, given.class_name + " has no " + name);
  }
  Instance changed = *part;
  merge_into(changed, given);
  DeviceBuilder builder(host.vms, host.files);
  if (changed.class_name == "Msvm_EthernetPortAllocationSettingData") {
    FARSIDE_TRY(builder.check_connection(changed));
  } else if (!is_at_rest(host, *settings)) {
    return fail(ErrorCode::kConflict, "the VM is not off");
  }
  if (changed.class_name == "Msvm_StorageAllocationSettingData") {
    FARSIDE_TRY(builder.check_disk_file(changed));
  }
  *part = std::move(changed);
  return {};
}

Result<MethodResult> define_system(RealHost& host, const MethodCall& call) {
  const Instance parameters = call.as_instance();
  FARSIDE_ASSIGN(const auto given, parameters.instances("SystemSettings"));
  FARSIDE_ASSIGN(const auto resources, parameters.instances("ResourceSettings"));
  const Instance& wanted = given.at(0);
  const std::string sub_type = wanted.text("VirtualSystemSubType");
  const bool is_second = sub_type == "Microsoft:Hyper-V:SubType:2";
  if (wanted.class_name != "Msvm_VirtualSystemSettingData" || !unknown_property(wanted).empty() ||
      (!sub_type.empty() && !is_second && sub_type != "Microsoft:Hyper-V:SubType:1")) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  return change_settings(
      host,
      {.caption = "Creating a virtual machine",
       .affected = call.target,
       .result = "ResultingSystem",
       .is_list = false},
      [&host, wanted, resources, is_second]() -> Result<std::vector<Reference>> {
        const std::string name = wanted.text("ElementName");
        const VmShape shape{.guid = host.vms.new_guid(),
                            .name = name.empty() ? "New Virtual Machine" : name,
                            .generation = is_second ? 2 : 1};
        Instance kept = wanted;
        for (const char* fixed : {"VirtualSystemIdentifier", "VirtualSystemType", "ConfigurationID",
                                  "Parent", "Version"}) {
          kept.properties.erase(fixed);
        }
        merge_into(host.vms.define(shape), kept);
        host.state.vms[shape.guid] = {.boots_witness = true, .arguments = host.guest_arguments()};
        for (Instance one : resources) {
          if (Instance* part = host.vms.part(*host.vms.settings(shape.guid), one.class_name);
              part != nullptr) {
            merge_into(*part, one);
            continue;
          }
          const auto added =
              DeviceBuilder(host.vms, host.files).add(*host.vms.settings(shape.guid), one);
          if (added) continue;
          host.vms.remove(shape.guid);
          host.state.vms.erase(shape.guid);
          return fail(added.error());
        }
        FARSIDE_TRY(host.state.save());
        return std::vector{host.objects.reference_to(*host.vms.system(shape.guid))};
      });
}

Result<MethodResult> destroy_system(RealHost& host, const MethodCall& call) {
  FARSIDE_ASSIGN(const Reference system, call.as_instance().reference("AffectedSystem"));
  const std::string guid = system.key("Name");
  if (system.class_name != "Msvm_ComputerSystem" || host.vms.system(guid) == nullptr) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  if (host.vms.state(guid) != kOff) return MethodResult{.return_value = kInvalidState};
  return change_settings(
      host, {.caption = "Removing a virtual machine", .affected = system, .result = {}},
      [&host, guid, system]() -> Result<std::vector<Reference>> {
        FARSIDE_TRY(host.checkpoints.merge_any(guid));
        std::vector<Reference> points;
        for (const Instance* one :
             host.objects.associated(system, "Msvm_ReferencePointOfVirtualSystem", "")) {
          points.push_back(host.objects.reference_to(*one));
        }
        for (const Reference& one : points) {
          FARSIDE_TRY(host.checkpoints.destroy_reference_point(one));
        }
        host.vms.remove(guid);
        host.state.vms.erase(guid);
        FARSIDE_TRY(host.state.save());
        return std::vector<Reference>{};
      });
}

Result<MethodResult> modify_system(RealHost& host, const MethodCall& call) {
  FARSIDE_ASSIGN(const auto given, call.as_instance().instances("SystemSettings"));
  Instance* settings =
      own_settings(host, {.class_name = given.at(0).class_name,
                          .keys = {{"InstanceID", given.at(0).text("InstanceID")}}});
  if (settings == nullptr || !unknown_property(given[0]).empty()) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  return change_settings(
      host,
      {.caption = "Changing a virtual machine",
       .affected = host.objects.reference_to(*settings),
       .result = {}},
      [&host, settings, given]() -> Result<std::vector<Reference>> {
        merge_into(*settings, given[0]);
        if (Instance* system = host.vms.system(settings->text("VirtualSystemIdentifier"))) {
          system->properties["ElementName"] = settings->at("ElementName");
        }
        FARSIDE_TRY(host.state.save());
        return std::vector<Reference>{};
      });
}

Result<MethodResult> add_resources(RealHost& host, const MethodCall& call) {
  const Instance parameters = call.as_instance();
  FARSIDE_ASSIGN(const Reference reference, parameters.reference("AffectedConfiguration"));
  FARSIDE_ASSIGN(const auto devices, parameters.instances("ResourceSettings"));
  Instance* settings = own_settings(host, reference);
  if (settings == nullptr || devices.empty()) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  if (!is_at_rest(host, *settings)) return MethodResult{.return_value = kInvalidState};
  return change_settings(
      host,
      {.caption = "Adding devices", .affected = reference, .result = "ResultingResourceSettings"},
      [&host, settings, devices]() -> Result<std::vector<Reference>> {
        std::vector<Reference> added;
        for (const Instance& one : devices) {
          FARSIDE_ASSIGN(Reference made, DeviceBuilder(host.vms, host.files).add(*settings, one));
          added.push_back(std::move(made));
        }
        FARSIDE_TRY(host.state.save());
        return added;
      });
}

Result<MethodResult> modify_resources(RealHost& host, const MethodCall& call) {
  FARSIDE_ASSIGN(const auto devices, call.as_instance().instances("ResourceSettings"));
  return change_settings(host,
                         {.caption = "Changing devices",
                          .affected = call.target,
                          .result = "ResultingResourceSettings"},
                         [&host, devices]() -> Result<std::vector<Reference>> {
                           std::vector<Reference> changed;
                           for (const Instance& one : devices) {
                             FARSIDE_TRY(change_resource(host, one));
                             changed.push_back({.class_name = one.class_name,
                                                .keys = {{"InstanceID", one.text("InstanceID")}}});
                           }
                           FARSIDE_TRY(host.state.save());
                           return changed;
                         });
}

Result<MethodResult> remove_resources(RealHost& host, const MethodCall& call) {
  FARSIDE_ASSIGN(const auto parts, references_of(call, "ResourceSettings"));
  for (const Reference& one : parts) {
    const Instance* part = host.objects.find(one);
    const Instance* settings = part == nullptr ? nullptr : host.vms.settings_of(*part);
    if (settings == nullptr || !host.vms.is_realized(*settings)) {
      return MethodResult{.return_value = kInvalidParameter};
    }
    if (!is_at_rest(host, *settings)) return MethodResult{.return_value = kInvalidState};
  }
  return change_settings(host,
                         {.caption = "Removing devices", .affected = call.target, .result = {}},
                         [&host, parts]() -> Result<std::vector<Reference>> {
                           for (const Reference& one : parts) {
                             const Instance* part = host.objects.find(one);
                             if (part == nullptr) continue;
                             for (const std::string& path : part->texts("HostResource")) {
                               host.state.tracking_of(path).lose();
                             }
                             host.vms.remove_part(*part);
                           }
                           FARSIDE_TRY(host.state.save());
                           return std::vector<Reference>{};
                         });
}

}  // namespace

void add_settings_methods(Methods& methods, RealHost& host) {
  const ParameterShape system{
      .name = "SystemSettings", .kind = ParameterKind::kEmbedded, .is_required = true};
  const ParameterShape devices{.name = "ResourceSettings",
                               .kind = ParameterKind::kEmbedded,
                               .is_array = true,
                               .is_required = true};
  const ParameterShape configuration{
      .name = "AffectedConfiguration", .kind = ParameterKind::kReference, .is_required = true};
  const std::string service = "Msvm_VirtualSystemManagementService/";
  methods[service + "DefineSystem"] = {
      .shape = {system,
                {.name = "ResourceSettings", .kind = ParameterKind::kEmbedded, .is_array = true},
                {.name = "ReferenceConfiguration", .kind = ParameterKind::kReference}},
      .handler = [&host](const MethodCall& call) { return define_system(host, call); }};
  methods[service + "DestroySystem"] = {
      .shape = {{.name = "AffectedSystem", .kind = ParameterKind::kReference, .is_required = true}},
      .handler = [&host](const MethodCall& call) { return destroy_system(host, call); }};
  methods[service + "ModifySystemSettings"] = {
      .shape = {system},
      .handler = [&host](const MethodCall& call) { return modify_system(host, call); }};
  methods[service + "AddResourceSettings"] = {
      .shape = {configuration, devices},
      .handler = [&host](const MethodCall& call) { return add_resources(host, call); }};
  methods[service + "ModifyResourceSettings"] = {
      .shape = {devices},
      .handler = [&host](const MethodCall& call) { return modify_resources(host, call); }};
  methods[service + "RemoveResourceSettings"] = {
      .shape = {{.name = "ResourceSettings",
                 .kind = ParameterKind::kReference,
                 .is_array = true,
                 .is_required = true}},
      .handler = [&host](const MethodCall& call) { return remove_resources(host, call); }};
}

}  // namespace farside::hvsim
