// What providers report of their sites: fabrics, providers, clouds, networks, storage, VMs.
#include "services/vault/front_door/uri.h"
#include "services/vault/rest/json.h"

namespace farside::vault {
namespace {

constexpr std::string_view kFabricType = "VMM";

Json fabric_json(const Call& call, const msg::Inventory& site, const Live& live) {
  const bool up = live.is_connected("provider/" + site.site);
  std::size_t vms = 0;
  for (const auto& host : site.hosts) vms += host.vms.size();
  return resource(fabric_path(call, site.site), site.site, "replicationFabrics",
                  Json{{"friendlyName", site.site},
                       {"bcdrState", "Valid"},
                       {"health", up ? "Normal" : "Critical"},
                       {"customDetails", {{"instanceType", kFabricType}}},
                       {"healthErrorDetails", Json::array()},
                       {"farside",
                        {{"connected", up},
                         {"hosts", site.hosts.size()},
                         {"virtualMachines", vms},
                         {"clouds", site.clouds.size()}}}});
}

Json provider_json(const Call& call, const msg::Identity& identity, const Live& live) {
  const auto& site = identity.peer.site;
  const auto heard = live.heard_at.find(site);
  const bool up = live.is_connected(identity.peer.principal);
  return resource(
      fabric_path(call, site) + "/replicationRecoveryServicesProviders/" +
          front_door::percent_encoded(identity.name),
      identity.name, "replicationFabrics/replicationRecoveryServicesProviders",
      Json{{"fabricType", kFabricType},
           {"friendlyName", identity.name},
           {"fabricFriendlyName", site},
           {"providerVersion", identity.version},
           {"connectionStatus", up ? "Connected" : "Disconnected"},
           {"lastHeartBeat", arm_time(heard == live.heard_at.end() ? 0 : heard->second)},
           {"healthErrorDetails", Json::array()}});
}

Json container_json(const Call& call, const msg::Inventory& site, const msg::Cloud& cloud,
                    std::size_t items, bool paired) {
  return resource(container_path(call, site.site, cloud.name), cloud.name,
                  "replicationFabrics/replicationProtectionContainers",
                  Json{{"fabricFriendlyName", site.site},
                       {"friendlyName", cloud.name},
                       {"fabricType", kFabricType},
                       {"protectedItemCount", items},
                       {"pairingStatus", paired ? "Paired" : "NotPaired"},
                       {"role", ""}});
}

Json network_json(const Call& call, const msg::Inventory& site, const msg::Network& network) {
  Json subnets = Json::array();
  for (const auto& subnet : network.subnets) {
    subnets.push_back(Json{{"name", subnet.name},
                           {"friendlyName", subnet.name},
                           {"addressList", Json::array({subnet.cidr})}});
  }
  return resource(network_path(call, site.site, network.name), network.name,
                  "replicationFabrics/replicationNetworks",
                  Json{{"fabricType", kFabricType},
                       {"friendlyName", network.name},
                       {"networkType", "VmNetwork"},
                       {"subnets", std::move(subnets)},
                       {"farside", {{"hostNetwork", network.host_network}}}});
}

Json storage_json(const Call& call, const msg::Inventory& site, const msg::StorageClass& storage) {
  return resource(fabric_path(call, site.site) + "/replicationStorageClassifications/" +
                      front_door::percent_encoded(storage.name),
                  storage.name, "replicationFabrics/replicationStorageClassifications",
                  Json{{"friendlyName", storage.name}, {"farside", {{"path", storage.path}}}});
}

Json vm_json(const Call& call, const msg::Inventory& site, const std::string& cloud,
             const Catalog::Found& found, const std::optional<msg::ProtectedItem>& item,
             const std::optional<msg::ProtectedItem>& maker) {
  const auto& vm = found.vm;
  Json disks = Json::array();
  for (const auto& disk : vm.disks) {
    disks.push_back(Json{{"maxSizeMB", disk.bytes >> 20U},
                         {"vhdType", "OperatingSystem"},
                         {"vhdId", disk.name},
                         {"vhdName", disk.name}});
  }
  Json problems = Json::array();
  if (!vm.problem.empty()) problems.push_back(vm.problem);
  if (vm.fenced) {
    problems.push_back("a copy of the time of its failover: it is active at " +
                       (vm.active_at.empty() ? "the other site" : vm.active_at));
  }
  if (maker) {
    problems.push_back("made by the failover of '" + maker->vm_name +
                       "', which ends with `farside unprotect " + maker->vm_name + "`");
  }
  const bool is_protected = item && item->state != msg::ItemState::enableFailed;
  return resource(container_path(call, site.site, cloud) + "/replicationProtectableItems/" + vm.id,
                  vm.id,
                  "replicationFabrics/replicationProtectionContainers/replicationProtectableItems",
                  Json{{"friendlyName", vm.name},
                       {"protectionStatus", is_protected ? "Protected"
                                            : vm.fenced  ? "Fenced"
                                                         : "Unprotected"},
                       {"replicationProtectedItemId", is_protected ? item_path(call, *item) : ""},
                       {"protectionReadinessErrors", std::move(problems)},
                       {"supportedReplicationProviders", Json::array({"HyperVReplica2012R2"})},
                       {"customDetails",
                        {{"instanceType", "VmmVirtualMachine"},
                         {"sourceItemId", vm.id},
                         {"generation", std::to_string(vm.generation)},
                         {"osDetails", {{"osType", vm.os_type}}},
                         {"diskDetails", std::move(disks)},
                         {"hyperVHostId", found.host}}},
                       {"farside",
                        {{"host", found.host},
                         {"state", msg::to_text(vm.state)},
                         {"activeAt", vm.active_at},
                         {"memoryMib", vm.memory_mib},
                         {"processors", vm.processors}}}});
}

}  // namespace

Reply Rest::list_fabrics(Call& call) {
  FARSIDE_ASSIGN(const auto sites, Catalog::rows(catalog_.inventories, call.effects.store()));
  Json out = Json::array();
  for (const auto& site : sites) out.push_back(fabric_json(call, site, catalog_.live));
  return listing(std::move(out));
}

Reply Rest::get_fabric(Call& call) {
  FARSIDE_ASSIGN(const auto site, catalog_.site(call.effects.store(), call["fabric"]));
  return ok(fabric_json(call, site, catalog_.live));
}

Reply Rest::list_providers(Call& call) {
  FARSIDE_ASSIGN(const auto identities, registrar_.identities(call.effects.store()));
  const auto only = call.values.find("fabric");
  Json out = Json::array();
  for (const auto& identity : identities) {
    if (identity.peer.role != msg::Role::provider) continue;
    if (only != call.values.end() && identity.peer.site != only->second) continue;
    out.push_back(provider_json(call, identity, catalog_.live));
  }
  return listing(std::move(out));
}

Reply Rest::get_provider(Call& call) {
  FARSIDE_ASSIGN(const auto identities, registrar_.identities(call.effects.store()));
  for (const auto& identity : identities) {
    if (identity.peer.role == msg::Role::provider && identity.peer.site == call["fabric"] &&
        identity.name == call["provider"]) {
      return ok(provider_json(call, identity, catalog_.live));
    }
  }
  return fail(ErrorCode::kNotFound, "no provider '" + call["provider"] + "'",
              "list them with `farside site list`");
}

Reply Rest::list_containers(Call& call) {
  const auto& store = call.effects.store();
  FARSIDE_ASSIGN(const auto sites, Catalog::rows(catalog_.inventories, store));
  FARSIDE_ASSIGN(const auto items, Catalog::rows(catalog_.items, store));
  FARSIDE_ASSIGN(const auto pairs, Catalog::rows(catalog_.pairs, store));
  const auto only = call.values.find("fabric");
  const auto only_cloud = call.values.find("cloud");
  Json out = Json::array();
  for (const auto& site : sites) {
    if (only != call.values.end() && site.site != only->second) continue;
    for (const auto& cloud : site.clouds) {
      if (only_cloud != call.values.end() && cloud.name != only_cloud->second) continue;
      const auto mine = [&](const std::string& of_site, const std::string& of_cloud) {
        return of_site == site.site && of_cloud == cloud.name;
      };
      const auto count = std::ranges::count_if(
          items, [&](const auto& item) { return mine(item.source_site, item.source_cloud); });
      const bool paired = std::ranges::any_of(pairs, [&](const auto& pair) {
        return mine(pair.source_site, pair.source_cloud) ||
               mine(pair.target_site, pair.target_cloud);
      });
      out.push_back(container_json(call, site, cloud, static_cast<std::size_t>(count), paired));
    }
  }
  return listing(std::move(out));
}

Reply Rest::get_container(Call& call) {
  FARSIDE_ASSIGN(const auto all, list_containers(call));
  const auto values = Json::parse(all->body).at("value");
  if (values.empty()) {
    return fail(ErrorCode::kNotFound,
                "site '" + call["fabric"] + "' has no cloud '" + call["cloud"] + "'",
                "define it in the provider's site file");
  }
  return ok(values.front());
}

Reply Rest::list_networks(Call& call) {
  FARSIDE_ASSIGN(const auto sites, Catalog::rows(catalog_.inventories, call.effects.store()));
  const auto only = call.values.find("fabric");
  Json out = Json::array();
  for (const auto& site : sites) {
    if (only != call.values.end() && site.site != only->second) continue;
    for (const auto& network : site.networks) out.push_back(network_json(call, site, network));
  }
  return listing(std::move(out));
}

Reply Rest::get_network(Call& call) {
  FARSIDE_ASSIGN(const auto site, catalog_.site(call.effects.store(), call["fabric"]));
  for (const auto& network : site.networks) {
    if (network.name == call["network"]) return ok(network_json(call, site, network));
  }
  return fail(ErrorCode::kNotFound,
              "site '" + site.site + "' has no VM network '" + call["network"] + "'",
              "define it in the provider's site file");
}

Reply Rest::list_logical_networks(Call& call) {
  FARSIDE_ASSIGN(const auto site, catalog_.site(call.effects.store(), call["fabric"]));
  Json out = Json::array();
  for (const auto& network : site.networks) {
    if (network.logical_network.empty()) continue;
    out.push_back(resource(fabric_path(call, site.site) + "/replicationLogicalNetworks/" +
                               front_door::percent_encoded(network.logical_network),
                           network.logical_network, "replicationFabrics/replicationLogicalNetworks",
                           Json{{"friendlyName", network.logical_network}}));
  }
  return listing(std::move(out));
}

Reply Rest::list_storage(Call& call) {
  FARSIDE_ASSIGN(const auto sites, Catalog::rows(catalog_.inventories, call.effects.store()));
  const auto only = call.values.find("fabric");
  Json out = Json::array();
  for (const auto& site : sites) {
    if (only != call.values.end() && site.site != only->second) continue;
    for (const auto& storage : site.storage) out.push_back(storage_json(call, site, storage));
  }
  return listing(std::move(out));
}

Reply Rest::get_storage(Call& call) {
  FARSIDE_ASSIGN(const auto site, catalog_.site(call.effects.store(), call["fabric"]));
  for (const auto& storage : site.storage) {
    if (storage.name == call["storage"]) return ok(storage_json(call, site, storage));
  }
  return fail(ErrorCode::kNotFound,
              "site '" + site.site + "' has no storage class '" + call["storage"] + "'",
              "define it in the provider's site file");
}

Reply Rest::list_protectable(Call& call) {
  const auto& store = call.effects.store();
  FARSIDE_ASSIGN(const auto site, catalog_.site(store, call["fabric"]));
  if (find_cloud(site, call["cloud"]) == nullptr) {
    return fail(ErrorCode::kNotFound,
                "site '" + site.site + "' has no cloud '" + call["cloud"] + "'",
                "define it in the provider's site file");
  }
  const auto only = call.values.find("vm");
  Json out = Json::array();
  for (const auto& found : Catalog::vms_of_cloud(site, call["cloud"])) {
    if (only != call.values.end() && found.vm.id != only->second) continue;
    FARSIDE_ASSIGN(const auto item, catalog_.item_of_vm(store, site.site, found.vm.id));
    FARSIDE_ASSIGN(const auto maker, catalog_.item_that_made(store, site.site, found.vm.id));
    out.push_back(vm_json(call, site, call["cloud"], found, item, maker));
  }
  return listing(std::move(out));
}

Reply Rest::get_protectable(Call& call) {
  FARSIDE_ASSIGN(const auto all, list_protectable(call));
  const auto values = Json::parse(all->body).at("value");
  if (values.empty()) {
    return fail(ErrorCode::kNotFound, "no VM '" + call["vm"] + "' in cloud '" + call["cloud"] + "'",
                "list them with `farside vm list`");
  }
  return ok(values.front());
}

}  // namespace farside::vault
