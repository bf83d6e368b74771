// Msvm_VirtualSystemManagementService: ports of switches, and addresses of guests; and what it
// tells of systems in one answer.
#include <fmt/format.h>

#include "tests/support/hvsim/known_properties.h"
#include "tests/support/hvsim/real_host.h"
#include "tests/support/hvsim/settings_change.h"

namespace farside::hvsim {
namespace {

constexpr const char* kVlan = "Msvm_EthernetSwitchPortVlanSettingData";
constexpr const char* kPortPart = "Msvm_EthernetPortSettingDataComponent";
constexpr std::uint64_t kVlanMax = 4094;

bool is_vlan(const Instance& feature) {
  if (feature.class_name != kVlan || !unknown_property(feature).empty()) return false;
  const auto is_number = [&](const char* name) {
    const std::uint64_t number = feature.number_or(name, 0);
    return number >= 1 && number <= kVlanMax;
  };
  switch (feature.number_or("OperationMode", 0)) {
    case 1:
      return is_number("AccessVlanId");
    case 2:
      return !feature.list("TrunkVlanIdArray").empty();
    case 3:
      return is_number("PrimaryVlanId");
    default:
      return false;
  }
}

Result<MethodResult> add_features(RealHost& host, const MethodCall& call) {
  const Instance parameters = call.as_instance();
  FARSIDE_ASSIGN(const Reference reference, parameters.reference("AffectedConfiguration"));
  FARSIDE_ASSIGN(const auto features, parameters.instances("FeatureSettings"));
  const Instance* port = host.objects.find(reference);
  if (port == nullptr || port->class_name != "Msvm_EthernetPortAllocationSettingData" ||
      features.size() != 1 || !is_vlan(features[0]) ||
      !host.objects.associated(reference, kPortPart, kVlan).empty()) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  return change_settings(
      host,
      {.caption = "Adding a feature of a port",
       .affected = reference,
       .result = "ResultingFeatureSettings"},
      [&host, reference, feature = features[0]]() -> Result<std::vector<Reference>> {
        const Instance* of = host.objects.find(reference);
        if (of == nullptr) return fail(ErrorCode::kNotFound, "the port is gone");
        Instance added = feature;
        added.properties["InstanceID"] =
            Value::text(of->text("InstanceID") + "\\" + host.vms.new_guid());
        const Instance& made = host.objects.add(std::move(added));
        host.objects.associate(kPortPart, *of, made);
        FARSIDE_TRY(host.state.save());
        return std::vector{host.objects.reference_to(made)};
      });
}

Result<MethodResult> remove_features(RealHost& host, const MethodCall& call) {
  FARSIDE_ASSIGN(const auto features, references_of(call, "FeatureSettings"));
  for (const Reference& one : features) {
    const Instance* found = host.objects.find(one);
    if (found == nullptr || found->class_name != kVlan) {
      return MethodResult{.return_value = kInvalidParameter};
    }
  }
  return change_settings(
      host, {.caption = "Removing a feature of a port", .affected = call.target, .result = {}},
      [&host, features]() -> Result<std::vector<Reference>> {
        for (const Reference& one : features) host.objects.remove(one);
        FARSIDE_TRY(host.state.save());
        return std::vector<Reference>{};
      });
}

bool is_guest_network(const Instance& given) {
  const auto addresses = given.texts("IPAddresses");
  const auto kind = given.number_or("ProtocolIFType", 4096);
  return given.class_name == "Msvm_GuestNetworkAdapterConfiguration" &&
         unknown_property(given).empty() && !given.at("DHCPEnabled").is_null() &&
         addresses.size() == given.texts("Subnets").size() &&
         given.texts("DefaultGateways").size() <= 5 && kind >= 4096 && kind <= 4098 &&
         (given.flag("DHCPEnabled") || !addresses.empty());
}

// In a guest that runs: its cards have the names that their order gives them.
Status apply_in_guest(RealHost& host, const std::string& guid, const Instance& network) {
  const auto cards =
      host.vms.parts(*host.vms.settings(guid), "Msvm_SyntheticEthernetPortSettingData");
  for (std::size_t i = 0; i < cards.size(); ++i) {
    const std::string card = cards[i]->text("InstanceID");
    const std::string id = network.text("InstanceID");
    if (card.substr(card.rfind('\\')) != id.substr(id.rfind('\\'))) continue;
    const auto addresses = network.texts("IPAddresses");
    for (std::size_t k = 0; k < addresses.size(); ++k) {
      const std::string address =
          fmt::format("{}/{}", addresses[k], prefix_length(network.texts("Subnets")[k]));
      FARSIDE_TRY(host.machines.run_in_guest(
          guid, "/bin/ip", {"address", "add", address, "dev", fmt::format("eth{}", i)}));
    }
  }
  return {};
}

Result<MethodResult> set_guest_network(RealHost& host, const MethodCall& call) {
  const Instance parameters = call.as_instance();
  FARSIDE_ASSIGN(const Reference system, parameters.reference("ComputerSystem"));
  FARSIDE_ASSIGN(const auto networks, parameters.instances("NetworkConfiguration"));
  const std::string guid = system.key("Name");
  if (host.vms.system(guid) == nullptr || networks.empty()) {
    return MethodResult{.return_value = kInvalidParameter};
  }
  for (const Instance& one : networks) {
    const std::string id = one.text("InstanceID");
    if (!is_guest_network(one) || !id.starts_with("Microsoft:GuestNetwork\\" + guid) ||
        host.objects.find({.class_name = one.class_name, .keys = {{"InstanceID", id}}}) ==
            nullptr) {
      return MethodResult{.return_value = kInvalidParameter};
    }
  }
  const auto act = [&host, guid, networks]() -> Result<std::vector<Reference>> {
    for (const Instance& one : networks) {
      Instance* kept = host.objects.find(
          {.class_name = one.class_name, .keys = {{"InstanceID", one.text("InstanceID")}}});
      if (kept == nullptr) return fail(ErrorCode::kNotFound, "the card is gone");
      for (const auto& [name, value] : one.properties) kept->properties[name] = value;
      if (host.machines.is_ready(guid)) FARSIDE_TRY(apply_in_guest(host, guid, *kept));
    }
    FARSIDE_TRY(host.state.save());
    return std::vector<Reference>{};
  };
  return host.jobs.start("Setting addresses in a guest", system, act);
}

Instance summary_of(RealHost& host, const Instance& settings) {
  const std::string guid = settings.text("VirtualSystemIdentifier");
  const bool is_ready = host.machines.is_ready(guid);
  const Instance* memory = host.vms.part(settings, "Msvm_MemorySettingData");
  const Instance* processors = host.vms.part(settings, "Msvm_ProcessorSettingData");
  return {"Msvm_SummaryInformation",
          {{"InstanceID", settings.at("InstanceID")},
           {"Name", Value::text(guid)},
           {"ElementName", settings.at("ElementName")},
           {"EnabledState", Value::u16(host.vms.state(guid))},
           {"HealthState", Value::u16(5)},
           {"Heartbeat", Value::u16(is_ready ? 2 : 12)},
           {"GuestOperatingSystem", is_ready ? Value::text("Linux") : Value::null()},
           {"MemoryUsage", host.machines.has_process(guid) && memory != nullptr
                               ? memory->at("VirtualQuantity")
                               : Value::null()},
           {"NumberOfProcessors",
            processors == nullptr ? Value::null() : processors->at("VirtualQuantity")},
           {"Version", settings.at("Version")}}};
}

Result<MethodResult> summarise(RealHost& host, const MethodCall& call) {
  FARSIDE_ASSIGN(auto wanted, references_of(call, "SettingData"));
  if (wanted.empty()) {
    for (const std::string& guid : host.vms.guids()) {
      wanted.push_back(host.objects.reference_to(*host.vms.settings(guid)));
    }
  }
  std::vector<Value> summaries;
  for (const Reference& one : wanted) {
    const Instance* settings = host.objects.find(one);
    if (settings == nullptr || settings->class_name != "Msvm_VirtualSystemSettingData") {
      return MethodResult{.return_value = kInvalidParameter};
    }
    summaries.push_back(Value::embedded(summary_of(host, *settings)));
  }
  return MethodResult{.return_value = 0,
                      .outputs = {{"SummaryInformation", Value::list(std::move(summaries))}}};
}

}  // namespace

void add_network_methods(Methods& methods, RealHost& host) {
  const std::string service = "Msvm_VirtualSystemManagementService/";
  methods[service + "AddFeatureSettings"] = {
      .shape = {{.name = "AffectedConfiguration",
                 .kind = ParameterKind::kReference,
                 .is_required = true},
                {.name = "FeatureSettings",
                 .kind = ParameterKind::kEmbedded,
                 .is_array = true,
                 .is_required = true}},
      .handler = [&host](const MethodCall& call) { return add_features(host, call); }};
  methods[service + "RemoveFeatureSettings"] = {
      .shape = {{.name = "FeatureSettings",
                 .kind = ParameterKind::kReference,
                 .is_array = true,
                 .is_required = true}},
      .handler = [&host](const MethodCall& call) { return remove_features(host, call); }};
  methods[service + "SetGuestNetworkAdapterConfiguration"] = {
      .shape = {{.name = "ComputerSystem", .kind = ParameterKind::kReference, .is_required = true},
                {.name = "NetworkConfiguration",
                 .kind = ParameterKind::kEmbedded,
                 .is_array = true,
                 .is_required = true}},
      .handler = [&host](const MethodCall& call) { return set_guest_network(host, call); }};
  methods[service + "GetSummaryInformation"] = {
      .shape = {{.name = "SettingData", .kind = ParameterKind::kReference, .is_array = true},
                {.name = "RequestedInformation",
                 .kind = ParameterKind::kNumber,
                 .is_array = true,
                 .is_required = true}},
      .handler = [&host](const MethodCall& call) { return summarise(host, call); }};
}

}  // namespace farside::hvsim
