#include "services/vault/catalog.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/identity/registrar.h"

namespace farside::vault {

const msg::Cloud* find_cloud(const msg::Inventory& site, const std::string& name) {
  const auto found =
      std::ranges::find_if(site.clouds, [&](const auto& cloud) { return cloud.name == name; });
  return found == site.clouds.end() ? nullptr : &*found;
}

void Catalog::forget_site(store::Batch& batch, const std::string& site) {
  inventories.erase(batch, site);
  const auto is_of_site = [&](const auto& one) { return identity::is_agent_of(one.first, site); };
  std::erase_if(live.connected, is_of_site);
  std::erase_if(live.host_problems, is_of_site);
  std::erase_if(live.key_problems, is_of_site);
  std::erase_if(live.troubles, is_of_site);
  std::erase_if(live.fences, is_of_site);
  live.heard_at.erase(site);
}

Result<msg::Inventory> Catalog::site(const store::Reader& store, const std::string& name) const {
  FARSIDE_ASSIGN(auto found, inventories.get(store, name));
  if (found) return std::move(*found);
  return fail(ErrorCode::kNotFound, "no site '" + name + "' has registered and reported",
              "start its provider with a registration key; see `farside site list`");
}

Result<msg::Policy> Catalog::policy(const store::Reader& store, const std::string& name) const {
  FARSIDE_ASSIGN(auto found, policies.get(store, name));
  if (found) return std::move(*found);
  return fail(ErrorCode::kNotFound, "no policy '" + name + "'",
              "create it with `farside policy create`");
}

Result<msg::ProtectedItem> Catalog::item_by_id(const store::Reader& store,
                                               const std::string& id) const {
  FARSIDE_ASSIGN(auto found, items.get(store, id));
  if (found) return std::move(*found);
  return fail(ErrorCode::kNotFound, "no protected item '" + id + "'",
              "list them with `farside watch`");
}

Result<std::optional<msg::ProtectedItem>> Catalog::item_named(const store::Reader& store,
                                                              const std::string& site,
                                                              const std::string& cloud,
                                                              const std::string& name) const {
  FARSIDE_ASSIGN(auto all, rows(items, store));
  for (auto& item : all) {
    if (item.source_site == site && item.source_cloud == cloud && item.name == name) {
      return std::move(item);
    }
  }
  return std::nullopt;
}

Result<std::optional<msg::ProtectedItem>> Catalog::item_of_vm(const store::Reader& store,
                                                              const std::string& site,
                                                              const std::string& vm) const {
  FARSIDE_ASSIGN(auto all, rows(items, store));
  for (auto& item : all) {
    if (item.source_site == site && item.vm == vm) return std::move(item);
  }
  return std::nullopt;
}

Result<std::optional<msg::ProtectedItem>> Catalog::item_that_made(const store::Reader& store,
                                                                  const std::string& site,
                                                                  const std::string& vm) const {
  FARSIDE_ASSIGN(auto all, rows(items, store));
  for (auto& item : all) {
    if (item.target_site == site && item.replica_vm == vm) return std::move(item);
  }
  return std::nullopt;
}

std::vector<Catalog::Found> Catalog::vms_of_cloud(const msg::Inventory& site,
                                                  const std::string& cloud_name) {
  std::vector<Found> out;
  const auto* cloud = find_cloud(site, cloud_name);
  if (cloud == nullptr) return out;
  for (const auto& entry : site.hosts) {
    const bool in_cloud = std::ranges::any_of(site.host_groups, [&](const auto& group) {
      return std::ranges::find(cloud->host_groups, group.name) != cloud->host_groups.end() &&
             std::ranges::find(group.hosts, entry.host.name) != group.hosts.end();
    });
    if (!in_cloud) continue;
    for (const auto& vm : entry.vms) {
      if (vm.is_test) continue;
      out.push_back(Found{.vm = vm, .agent = entry.principal, .host = entry.host.name});
    }
  }
  return out;
}

Result<std::string> Catalog::target_storage(const store::Reader& store,
                                            const msg::ProtectedItem& item) const {
  FARSIDE_ASSIGN(const auto site, inventories.get(store, item.source_site));
  if (!site) return std::string{};
  const auto vms = vms_of_cloud(*site, item.source_cloud);
  const auto vm = std::ranges::find_if(vms, [&](const auto& v) { return v.vm.id == item.vm; });
  if (vm == vms.end() || vm->vm.disks.empty()) return std::string{};
  const msg::StorageClass* own = nullptr;  // The one with the longest path above the disk.
  for (const auto& storage : site->storage) {
    const bool holds = vm->vm.disks.front().path.starts_with(storage.path + "/");
    if (holds && (own == nullptr || storage.path.size() > own->path.size())) own = &storage;
  }
  if (own == nullptr) return std::string{};
  FARSIDE_ASSIGN(const auto all, rows(storage_mappings, store));
  for (const auto& mapping : all) {
    if (mapping.source_site == item.source_site && mapping.source_class == own->name &&
        mapping.target_site == item.target_site) {
      return mapping.target_class;
    }
  }
  return std::string{};
}

Result<msg::ItemSpec> Catalog::spec(const store::Reader& store,
                                    const msg::ProtectedItem& item) const {
  FARSIDE_ASSIGN(auto item_policy, policy(store, item.policy));
  msg::ItemSpec out{.item = item.id,
                    .vm = item.vm,
                    .vm_name = item.vm_name,
                    .source_site = item.source_site,
                    .source_cloud = item.source_cloud,
                    .source_agent = item.source_agent,
                    .target_site = item.target_site,
                    .target_cloud = item.target_cloud,
                    .target_agent = item.target_agent,
                    .policy = std::move(item_policy),
                    .epoch = item.epoch,
                    .replica_vm = item.replica_vm};
  FARSIDE_ASSIGN(out.storage_class, target_storage(store, item));
  FARSIDE_ASSIGN(const auto all, rows(mappings, store));
  for (const auto& mapping : all) {
    if (mapping.source_site == item.source_site && mapping.target_site == item.target_site) {
      out.networks.push_back(
          msg::NetworkPair{.source = mapping.source_network, .target = mapping.target_network});
    }
  }
  return out;
}

Status check(const msg::Policy& policy) {
  std::string wrong;
  const auto within = [&](std::string_view what, std::uint32_t value, std::uint32_t min,
                          std::uint32_t max) {
    if (value >= min && value <= max) return;
    wrong += fmt::format("{}{} is {}, allowed are {} to {}", wrong.empty() ? "" : "; ", what, value,
                         min, max);
  };
  within("replicationFrequencyInSeconds", policy.frequency_seconds, 1, 900);
  within("recoveryPoints (hours)", policy.retention_hours, 0, 720);
  within("everyPointHours", policy.every_point_hours, 0, 720);
  within("floorHours", policy.floor_hours, 0, 720);
  within("keepAfterCommitHours", policy.keep_hours, 0, 720);
  within("applicationConsistentSnapshotFrequencyInHours", policy.app_consistent_hours, 0, 12);
  within("replicationPort", policy.port, 1, 65535);
  if (policy.initial_method != "OverNetwork") {
    wrong += fmt::format("{}initialReplicationMethod '{}' is not offered, only OverNetwork",
                         wrong.empty() ? "" : "; ", policy.initial_method);
  }
  if (policy.journal_gib_max > 0 && policy.floor_hours > 0 &&
      policy.floor_hours >= policy.retention_hours) {
    wrong += fmt::format(
        "{}floorHours is {} and recoveryPoints {}: no point could ever go for journalGibMax",
        wrong.empty() ? "" : "; ", policy.floor_hours, policy.retention_hours);
  }
  if (wrong.empty()) return {};
  return fail(ErrorCode::kInvalidArgument, "policy '" + policy.name + "': " + wrong,
              "correct these values");
}

}  // namespace farside::vault
