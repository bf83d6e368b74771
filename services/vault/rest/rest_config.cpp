// What an operator configures: policies, cloud pairs, network mappings.
#include <algorithm>

#include "common/identity/registrar.h"
#include "services/vault/front_door/uri.h"
#include "services/vault/rest/json.h"

namespace farside::vault {
namespace {

constexpr std::uint32_t kFrequencySeconds = 300;
constexpr std::uint32_t kRetentionHours = 4;
constexpr std::uint32_t kEveryPointHours = 2;
constexpr std::uint32_t kPort = 8084;

msg::Policy default_policy(const std::string& name) {
  return msg::Policy{.name = name,
                     .frequency_seconds = kFrequencySeconds,
                     .retention_hours = kRetentionHours,
                     .every_point_hours = kEveryPointHours,
                     .app_consistent_hours = 0,
                     .compression = true,
                     .port = kPort,
                     .delete_replica = true,
                     .initial_method = "OverNetwork"};
}

Json policy_json(const Call& call, const msg::Policy& policy) {
  return resource(
      policy_path(call, policy.name), policy.name, "replicationPolicies",
      Json{{"friendlyName", policy.name},
           {"providerSpecificDetails",
            {{"instanceType", "HyperVReplica2012R2"},
             {"replicationFrequencyInSeconds", policy.frequency_seconds},
             {"recoveryPoints", policy.retention_hours},
             {"applicationConsistentSnapshotFrequencyInHours", policy.app_consistent_hours},
             {"compression", policy.compression ? "Enabled" : "Disabled"},
             {"initialReplicationMethod", policy.initial_method},
             {"onlineReplicationStartTime", ""},
             {"offlineReplicationImportPath", ""},
             {"offlineReplicationExportPath", ""},
             {"replicationPort", policy.port},
             {"allowedAuthenticationType", 2},
             {"replicaDeletionOption",
              policy.delete_replica ? "SecondaryVMOnRecoveryCloud" : "None"}}},
           {"farside",
            {{"everyPointHours", policy.every_point_hours},
             {"bandwidthKbps", policy.bandwidth_kbps},
             {"journalGibMax", policy.journal_gib_max},
             {"floorHours", policy.floor_hours},
             {"keepAfterCommitHours", policy.keep_hours}}}});
}

// Writes a number of the body into `into`; negative and huge ones are caught by check().
void take(const Call& call, std::initializer_list<std::string_view> path, std::uint32_t& into) {
  if (const auto value = call.number(path)) {
    into = *value < 0 || *value > 0xffffffffLL ? 0xffffffffU : static_cast<std::uint32_t>(*value);
  }
}

Json pair_json(const Call& call, const msg::CloudPair& pair) {
  return resource(container_path(call, pair.source_site, pair.source_cloud) +
                      "/replicationProtectionContainerMappings/" +
                      front_door::percent_encoded(pair.name),
                  pair.name,
                  "replicationFabrics/replicationProtectionContainers/"
                  "replicationProtectionContainerMappings",
                  Json{{"targetProtectionContainerId",
                        container_path(call, pair.target_site, pair.target_cloud)},
                       {"targetProtectionContainerFriendlyName", pair.target_cloud},
                       {"sourceProtectionContainerFriendlyName", pair.source_cloud},
                       {"sourceFabricFriendlyName", pair.source_site},
                       {"targetFabricFriendlyName", pair.target_site},
                       {"policyId", policy_path(call, pair.policy)},
                       {"policyFriendlyName", pair.policy},
                       {"health", "Normal"},
                       {"healthErrorDetails", Json::array()},
                       {"state", "Paired"}});
}

Json mapping_json(const Call& call, const msg::NetworkMapping& mapping) {
  return resource(
      network_path(call, mapping.source_site, mapping.source_network) +
          "/replicationNetworkMappings/" + front_door::percent_encoded(mapping.name),
      mapping.name, "replicationFabrics/replicationNetworks/replicationNetworkMappings",
      Json{{"state", "Paired"},
           {"primaryNetworkFriendlyName", mapping.source_network},
           {"primaryNetworkId", network_path(call, mapping.source_site, mapping.source_network)},
           {"primaryFabricFriendlyName", mapping.source_site},
           {"recoveryNetworkFriendlyName", mapping.target_network},
           {"recoveryNetworkId", network_path(call, mapping.target_site, mapping.target_network)},
           {"recoveryFabricArmId", fabric_path(call, mapping.target_site)},
           {"recoveryFabricFriendlyName", mapping.target_site},
           {"fabricSpecificSettings", {{"instanceType", "VmmToVmm"}}}});
}

Json storage_mapping_json(const Call& call, const msg::StorageMapping& mapping) {
  const auto path = [&](const std::string& site, const std::string& name) {
    return fabric_path(call, site) + "/replicationStorageClassifications/" +
           front_door::percent_encoded(name);
  };
  return resource(
      path(mapping.source_site, mapping.source_class) +
          "/replicationStorageClassificationMappings/" + front_door::percent_encoded(mapping.name),
      mapping.name,
      "replicationFabrics/replicationStorageClassifications/"
      "replicationStorageClassificationMappings",
      Json{{"targetStorageClassificationId", path(mapping.target_site, mapping.target_class)},
           {"farside",
            {{"sourceSite", mapping.source_site},
             {"sourceClass", mapping.source_class},
             {"targetSite", mapping.target_site},
             {"targetClass", mapping.target_class}}}});
}

bool has_storage(const msg::Inventory& site, const std::string& name) {
  return std::ranges::any_of(site.storage, [&](const auto& s) { return s.name == name; });
}

bool has_network(const msg::Inventory& site, const std::string& name) {
  return std::ranges::any_of(site.networks, [&](const auto& n) { return n.name == name; });
}

}  // namespace

// ---- Policies ----

Reply Rest::list_policies(Call& call) {
  FARSIDE_ASSIGN(const auto all, Catalog::rows(catalog_.policies, call.effects.store()));
  Json out = Json::array();
  for (const auto& policy : all) out.push_back(policy_json(call, policy));
  return listing(std::move(out));
}

Reply Rest::get_policy(Call& call) {
  FARSIDE_ASSIGN(const auto policy, catalog_.policy(call.effects.store(), call["policy"]));
  return ok(policy_json(call, policy));
}

Reply Rest::put_policy(Call& call) {
  FARSIDE_TRY(identity::check_name("policy", call["policy"]));
  FARSIDE_ASSIGN(auto present, catalog_.policies.get(call.effects.store(), call["policy"]));
  if (!present && call.http.method == "PATCH") {
    return fail(ErrorCode::kNotFound, "no policy '" + call["policy"] + "'", "create it with PUT");
  }
  auto policy = present.value_or(default_policy(call["policy"]));
  // Creation names the settings "providerSpecificInput", a change "replicationProviderSettings".
  const std::string_view input =
      call.http.method == "PATCH" ? "replicationProviderSettings" : "providerSpecificInput";
  const auto field = [&](std::string_view name) { return call.text({"properties", input, name}); };
  take(call, {"properties", input, "replicationFrequencyInSeconds"}, policy.frequency_seconds);
  take(call, {"properties", input, "recoveryPoints"}, policy.retention_hours);
  take(call, {"properties", input, "applicationConsistentSnapshotFrequencyInHours"},
       policy.app_consistent_hours);
  take(call, {"properties", input, "replicationPort"}, policy.port);
  if (!field("compression").empty()) policy.compression = field("compression") != "Disable";
  if (!field("initialReplicationMethod").empty()) {
    policy.initial_method = field("initialReplicationMethod");
  }
  if (!field("replicaDeletion").empty()) {
    policy.delete_replica = field("replicaDeletion") == "Required";
  }
  return save_policy(call, policy);
}

// Items protected by it work by the change within seconds: see SettingsDesk.
Reply Rest::save_policy(Call& call, const msg::Policy& policy) {
  FARSIDE_TRY(check(policy));
  catalog_.policies.put(call.effects.writes, policy.name, policy);
  settings_desk_.refresh(call.effects);
  return ok(policy_json(call, policy));
}

// What the original's policy has no fields for.
Reply Rest::put_farside_policy(Call& call) {
  FARSIDE_ASSIGN(auto policy, catalog_.policy(call.effects.store(), call["policy"]));
  take(call, {"properties", "replicationFrequencyInSeconds"}, policy.frequency_seconds);
  take(call, {"properties", "everyPointHours"}, policy.every_point_hours);
  take(call, {"properties", "recoveryPoints"}, policy.retention_hours);
  take(call, {"properties", "bandwidthKbps"}, policy.bandwidth_kbps);
  take(call, {"properties", "journalGibMax"}, policy.journal_gib_max);
  take(call, {"properties", "floorHours"}, policy.floor_hours);
  take(call, {"properties", "keepAfterCommitHours"}, policy.keep_hours);
  if (call.number({"properties", "journalGibMax"}) && !call.number({"properties", "floorHours"}) &&
      policy.floor_hours >= policy.retention_hours) {
    // Nobody asks for a limit that no point could ever go for.
    policy.floor_hours = std::min(policy.floor_hours, policy.retention_hours / 2);
  }
  return save_policy(call, policy);
}

Reply Rest::delete_policy(Call& call) {
  const auto& store = call.effects.store();
  FARSIDE_ASSIGN(const auto pairs, Catalog::rows(catalog_.pairs, store));
  for (const auto& pair : pairs) {
    if (pair.policy != call["policy"]) continue;
    return fail(ErrorCode::kConflict,
                "policy '" + pair.policy + "' is used by cloud pair '" + pair.name + "'",
                "delete that pair first");
  }
  FARSIDE_ASSIGN(const auto items, Catalog::rows(catalog_.items, store));
  for (const auto& item : items) {
    if (item.policy != call["policy"]) continue;
    return fail(ErrorCode::kConflict,
                "policy '" + item.policy + "' protects VM '" + item.vm_name + "'",
                "disable its protection first");
  }
  catalog_.policies.erase(call.effects.writes, call["policy"]);
  return no_content();
}

// ---- Cloud pairs ----

Reply Rest::list_pairs(Call& call) {
  FARSIDE_ASSIGN(const auto all, Catalog::rows(catalog_.pairs, call.effects.store()));
  const auto fabric = call.values.find("fabric");
  Json out = Json::array();
  for (const auto& pair : all) {
    if (fabric != call.values.end() &&
        (pair.source_site != fabric->second || pair.source_cloud != call["cloud"])) {
      continue;
    }
    out.push_back(pair_json(call, pair));
  }
  return listing(std::move(out));
}

Reply Rest::get_pair(Call& call) {
  FARSIDE_ASSIGN(const auto pair, catalog_.pairs.get(call.effects.store(), call["pair"]));
  if (!pair || pair->source_site != call["fabric"] || pair->source_cloud != call["cloud"]) {
    return fail(ErrorCode::kNotFound, "no cloud pair '" + call["pair"] + "'",
                "list them with `farside pair list`");
  }
  return ok(pair_json(call, *pair));
}

Reply Rest::put_pair(Call& call) {
  const auto& store = call.effects.store();
  FARSIDE_TRY(identity::check_name("cloud pair", call["pair"]));
  const auto target_id = call.text({"properties", "targetProtectionContainerId"});
  const auto target_site = segment_after(target_id, "replicationFabrics");
  const auto target_cloud = segment_after(target_id, "replicationProtectionContainers");
  const auto policy = segment_after(call.text({"properties", "policyId"}), "replicationPolicies");
  if (!target_site || !target_cloud || !policy) {
    return fail(ErrorCode::kInvalidArgument,
                "cloud pair '" + call["pair"] + "' needs a target cloud and a policy",
                "send properties.targetProtectionContainerId and properties.policyId");
  }
  FARSIDE_ASSIGN(const auto source, catalog_.site(store, call["fabric"]));
  FARSIDE_ASSIGN(const auto target, catalog_.site(store, *target_site));
  FARSIDE_TRY(catalog_.policy(store, *policy));
  for (const auto& [site, cloud] : {std::pair{&source, call["cloud"]}, {&target, *target_cloud}}) {
    if (find_cloud(*site, cloud) != nullptr) continue;
    return fail(ErrorCode::kNotFound, "site '" + site->site + "' has no cloud '" + cloud + "'",
                "define it in the provider's site file");
  }
  if (source.site == target.site && call["cloud"] == *target_cloud) {
    return fail(ErrorCode::kInvalidArgument, "a cloud cannot be paired with itself",
                "choose another target cloud");
  }
  const msg::CloudPair pair{.name = call["pair"],
                            .source_site = source.site,
                            .source_cloud = call["cloud"],
                            .target_site = target.site,
                            .target_cloud = *target_cloud,
                            .policy = *policy};
  FARSIDE_ASSIGN(const auto present, catalog_.pairs.get(store, pair.name));
  if (present && *present != pair) {
    return fail(ErrorCode::kAlreadyExists, "a cloud pair '" + pair.name + "' exists",
                "delete it first or choose another name");
  }
  catalog_.pairs.put(call.effects.writes, pair.name, pair);
  return ok(pair_json(call, pair));
}

Reply Rest::delete_pair(Call& call) {
  FARSIDE_TRY(get_pair(call));  // Not a namesake elsewhere.
  FARSIDE_ASSIGN(const auto items, Catalog::rows(catalog_.items, call.effects.store()));
  for (const auto& item : items) {
    if (item.pair != call["pair"]) continue;
    return fail(ErrorCode::kConflict,
                "cloud pair '" + item.pair + "' protects VM '" + item.vm_name + "'",
                "disable its protection first");
  }
  catalog_.pairs.erase(call.effects.writes, call["pair"]);
  return no_content();
}

// ---- Network mappings ----

Reply Rest::list_mappings(Call& call) {
  FARSIDE_ASSIGN(const auto all, Catalog::rows(catalog_.mappings, call.effects.store()));
  const auto fabric = call.values.find("fabric");
  Json out = Json::array();
  for (const auto& mapping : all) {
    if (fabric != call.values.end() &&
        (mapping.source_site != fabric->second || mapping.source_network != call["network"])) {
      continue;
    }
    out.push_back(mapping_json(call, mapping));
  }
  return listing(std::move(out));
}

Reply Rest::get_mapping(Call& call) {
  FARSIDE_ASSIGN(const auto mapping, catalog_.mappings.get(call.effects.store(), call["mapping"]));
  if (!mapping || mapping->source_site != call["fabric"] ||
      mapping->source_network != call["network"]) {
    return fail(ErrorCode::kNotFound, "no network mapping '" + call["mapping"] + "'",
                "list them with `farside network-map list`");
  }
  return ok(mapping_json(call, *mapping));
}

Reply Rest::put_mapping(Call& call) {
  const auto& store = call.effects.store();
  FARSIDE_TRY(identity::check_name("network mapping", call["mapping"]));
  const auto target_id = call.text({"properties", "recoveryNetworkId"});
  const auto target_network = segment_after(target_id, "replicationNetworks");
  auto target_site = segment_after(target_id, "replicationFabrics");
  if (!target_site) target_site = call.text({"properties", "recoveryFabricName"});
  if (!target_network || target_site->empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "network mapping '" + call["mapping"] + "' needs a target network",
                "send properties.recoveryNetworkId");
  }
  FARSIDE_ASSIGN(const auto source, catalog_.site(store, call["fabric"]));
  FARSIDE_ASSIGN(const auto target, catalog_.site(store, *target_site));
  for (const auto& [site, network] :
       {std::pair{&source, call["network"]}, {&target, *target_network}}) {
    if (has_network(*site, network)) continue;
    return fail(ErrorCode::kNotFound,
                "site '" + site->site + "' has no VM network '" + network + "'",
                "define it in the provider's site file");
  }
  // One target per source network and pair of sites, as in the original.
  FARSIDE_ASSIGN(const auto all, Catalog::rows(catalog_.mappings, store));
  for (const auto& other : all) {
    const bool is_this =
        other.source_site == source.site && other.source_network == call["network"];
    if (other.name == call["mapping"] && !is_this) {
      return fail(ErrorCode::kAlreadyExists,
                  "mapping '" + other.name + "' maps network '" + other.source_network +
                      "' of site '" + other.source_site + "'",
                  "choose another name");
    }
    if (other.name != call["mapping"] && other.source_site == source.site &&
        other.source_network == call["network"] && other.target_site == target.site) {
      return fail(ErrorCode::kAlreadyExists,
                  "network '" + call["network"] + "' is mapped by '" + other.name + "'",
                  "delete that mapping first");
    }
  }
  const msg::NetworkMapping mapping{.name = call["mapping"],
                                    .source_site = source.site,
                                    .source_network = call["network"],
                                    .target_site = target.site,
                                    .target_network = *target_network};
  catalog_.mappings.put(call.effects.writes, mapping.name, mapping);
  return ok(mapping_json(call, mapping));
}

Reply Rest::delete_mapping(Call& call) {
  FARSIDE_TRY(get_mapping(call));  // Not a namesake elsewhere.
  catalog_.mappings.erase(call.effects.writes, call["mapping"]);
  return no_content();
}

// ---- Storage classification mappings ----

Reply Rest::list_storage_mappings(Call& call) {
  FARSIDE_ASSIGN(const auto all, Catalog::rows(catalog_.storage_mappings, call.effects.store()));
  const auto fabric = call.values.find("fabric");
  Json out = Json::array();
  for (const auto& mapping : all) {
    if (fabric != call.values.end() &&
        (mapping.source_site != fabric->second || mapping.source_class != call["storage"])) {
      continue;
    }
    out.push_back(storage_mapping_json(call, mapping));
  }
  return listing(std::move(out));
}

Reply Rest::get_storage_mapping(Call& call) {
  FARSIDE_ASSIGN(const auto mapping,
                 catalog_.storage_mappings.get(call.effects.store(), call["mapping"]));
  if (!mapping || mapping->source_site != call["fabric"] ||
      mapping->source_class != call["storage"]) {
    return fail(ErrorCode::kNotFound, "no storage mapping '" + call["mapping"] + "'",
                "list them with `farside storage-map list`");
  }
  return ok(storage_mapping_json(call, *mapping));
}

Reply Rest::put_storage_mapping(Call& call) {
  const auto& store = call.effects.store();
  FARSIDE_TRY(identity::check_name("storage mapping", call["mapping"]));
  const auto target_id = call.text({"properties", "targetStorageClassificationId"});
  const auto target_class = segment_after(target_id, "replicationStorageClassifications");
  const auto target_site = segment_after(target_id, "replicationFabrics");
  if (!target_class || !target_site) {
    return fail(ErrorCode::kInvalidArgument,
                "storage mapping '" + call["mapping"] + "' needs a target storage class",
                "send properties.targetStorageClassificationId");
  }
  FARSIDE_ASSIGN(const auto source, catalog_.site(store, call["fabric"]));
  FARSIDE_ASSIGN(const auto target, catalog_.site(store, *target_site));
  for (const auto& [site, name] : {std::pair{&source, call["storage"]}, {&target, *target_class}}) {
    if (has_storage(*site, name)) continue;
    return fail(ErrorCode::kNotFound,
                "site '" + site->site + "' has no storage class '" + name + "'",
                "define it in the provider's site file");
  }
  const msg::StorageMapping mapping{.name = call["mapping"],
                                    .source_site = source.site,
                                    .source_class = call["storage"],
                                    .target_site = target.site,
                                    .target_class = *target_class};
  FARSIDE_ASSIGN(const auto all, Catalog::rows(catalog_.storage_mappings, store));
  for (const auto& other : all) {
    const bool same_source =
        other.source_site == mapping.source_site && other.source_class == mapping.source_class;
    if (other.name == mapping.name && !same_source) {
      return fail(ErrorCode::kAlreadyExists,
                  "mapping '" + other.name + "' maps class '" + other.source_class + "' of site '" +
                      other.source_site + "'",
                  "choose another name");
    }
    if (other.name != mapping.name && same_source && other.target_site == mapping.target_site) {
      return fail(ErrorCode::kAlreadyExists,
                  "class '" + mapping.source_class + "' is mapped by '" + other.name + "'",
                  "delete that mapping first");
    }
  }
  catalog_.storage_mappings.put(call.effects.writes, mapping.name, mapping);
  return ok(storage_mapping_json(call, mapping));
}

Reply Rest::delete_storage_mapping(Call& call) {
  FARSIDE_TRY(get_storage_mapping(call));  // Not a namesake elsewhere.
  catalog_.storage_mappings.erase(call.effects.writes, call["mapping"]);
  return no_content();
}

}  // namespace farside::vault
