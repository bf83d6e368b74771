#include "services/vault/settings_desk.h"

#include "common/base/log.h"
#include "common/base/sha256.h"
#include "common/identity/key_file.h"
#include "common/identity/registrar.h"
#include "common/schema/control.plain.h"

namespace farside::vault {
namespace {

constexpr Micros kTellEvery = std::chrono::seconds{5};
constexpr std::size_t kDisksMax = 64;
constexpr std::uint64_t kDiskBytesMax = std::uint64_t{64} << 40U;

// A host that says something else of a VM gets no room for it anywhere.
std::vector<msg::ReplicaDisk> believable(const msg::Vm& vm) {
  std::vector<msg::ReplicaDisk> out;
  for (const auto& disk : vm.disks) {
    if (disk.name.empty() || disk.bytes == 0 || disk.bytes > kDiskBytesMax) return {};
    out.push_back({.name = disk.name, .bytes = disk.bytes, .id = disk.id});
  }
  if (out.size() > kDisksMax) return {};
  return out;
}

std::string host_network(const msg::Inventory& site, const std::string& network) {
  for (const auto& each : site.networks) {
    if (each.name == network) return each.host_network;
  }
  return {};
}

}  // namespace

void SettingsDesk::refresh(reactor::Effects& effects) {
  const auto sites = Catalog::rows(catalog_.inventories, effects.store());
  const auto all = Catalog::rows(catalog_.policies, effects.store());
  const auto revoked = Catalog::rows(catalog_.revoked, effects.store());
  const auto mappings = Catalog::rows(catalog_.mappings, effects.store());
  if (!sites || !all || !revoked || !mappings) return;  // What was read before stays.
  agents_.clear();
  disks_.clear();
  networks_.clear();
  for (const auto& site : *sites) {
    for (const auto& entry : site.hosts) {
      agents_[entry.principal] =
          Agent{.key = entry.host.public_key, .endpoint = entry.host.data_endpoint};
      for (const auto& vm : entry.vms) disks_[{entry.principal, vm.id}] = believable(vm);
    }
    for (const auto& mapping : *mappings) {
      if (mapping.target_site != site.site) continue;
      networks_[{mapping.source_site, mapping.target_site}].push_back(
          {.source = mapping.source_network, .target = host_network(site, mapping.target_network)});
    }
  }
  for (const auto& one : *revoked) {
    // Once the host has joined again it has another key.
    auto& agent = agents_[one.principal];
    agent.revoked = agent.key.empty() || agent.key == one.public_key;
  }
  policies_.clear();
  for (const auto& policy : *all) policies_[policy.name] = policy;
  std::erase_if(told_,
                [&](const auto& told) { return effects.monotonic() - told.second > kTellEvery; });
}

msg::ItemSettings SettingsDesk::settings_of(const msg::ProtectedItem& item,
                                            const std::string& peer) const {
  msg::ItemSettings out{.item = item.id, .epoch = item.epoch};
  if (const auto found = policies_.find(item.policy); found != policies_.end()) {
    out.policy = found->second;
  }
  if (const auto found = agents_.find(peer); found != agents_.end()) {
    out.peer_key = found->second.key;
    out.peer_endpoint = found->second.endpoint;
    out.peer_revoked = found->second.revoked;
  }
  return out;
}

std::vector<msg::ReplicaDisk> SettingsDesk::disks_of(const msg::ProtectedItem& item) const {
  const auto found = disks_.find({item.source_agent, item.vm});
  return found == disks_.end() ? std::vector<msg::ReplicaDisk>{} : found->second;
}

std::vector<msg::NetworkPair> SettingsDesk::networks_of(const msg::ProtectedItem& item) const {
  const auto found = networks_.find({item.source_site, item.target_site});
  return found == networks_.end() ? std::vector<msg::NetworkPair>{} : found->second;
}

msg::ItemSettings SettingsDesk::for_source(const msg::ProtectedItem& item) const {
  auto out = settings_of(item, item.target_agent);
  out.paused = item.paused_at != 0;
  return out;
}

void SettingsDesk::tell(const std::string& agent, msg::ItemSettings settings,
                        const std::string& reported, reactor::Effects& effects) {
  settings.digest = sha256_hex(msg::encode(settings)).substr(0, 16);
  if (settings.digest == reported) return;
  auto& told = told_[{agent, settings.item}];
  if (told != Micros{0} && effects.monotonic() - told < kTellEvery) return;
  told = effects.monotonic();
  effects.send(
      identity::neighbour_of(agent),
      msg::Envelope{
          .from = effects.self(), .to = agent, .body = reactor::message(std::move(settings))});
}

void SettingsDesk::on_source(const std::string& agent, const msg::ReplicationStatus& reported,
                             reactor::Effects& effects) {
  const auto item = catalog_.items.get(effects.store(), reported.item);
  if (!item) return;  // Unreadable is not the same as gone.
  const bool ended = !*item || (*item)->source_agent != agent ||
                     (*item)->state == msg::ItemState::committed ||
                     ((*item)->state == msg::ItemState::enableFailed && (*item)->job.empty());
  if (ended) {
    if (reported.item.empty()) return;
    tell(agent, msg::ItemSettings{.item = reported.item, .epoch = reported.epoch, .ended = true},
         "", effects);
    return;
  }
  if (!policies_.contains((*item)->policy)) return;  // Not refreshed yet.
  tell(agent, for_source(**item), reported.settings, effects);
}

void SettingsDesk::on_replica(const std::string& agent, const msg::ReplicaStatus& reported,
                              reactor::Effects& effects) {
  const auto item = catalog_.items.get(effects.store(), reported.item);
  if (!item) return;
  if (!*item || (*item)->target_agent != agent) {
    // Data is never deleted for want of a record: an operator decides.
    auto& told = told_[{agent, reported.item}];
    if (told != Micros{0}) return;
    told = effects.monotonic();
    log::warn("replica without a protected item", {{"agent", agent}, {"item", reported.item}});
    return;
  }
  if ((*item)->state == msg::ItemState::committed) return;
  if (!policies_.contains((*item)->policy)) return;
  auto settings = settings_of(**item, (*item)->source_agent);
  settings.peer_endpoint.clear();  // A target dials nobody.
  settings.disks = disks_of(**item);
  settings.vm_name = (*item)->vm_name;
  settings.networks = networks_of(**item);
  tell(agent, std::move(settings), reported.settings, effects);
}

void SettingsDesk::changed(const msg::ProtectedItem& item, reactor::Effects& effects) {
  if (!policies_.contains(item.policy)) return;
  told_.erase({item.source_agent, item.id});
  tell(item.source_agent, for_source(item), "", effects);
}

void SettingsDesk::revoked(const std::string& agent, reactor::Effects& effects) {
  const auto found = agents_.find(agent);
  catalog_.revoked.put(
      effects.writes, agent,
      msg::RevokedKey{.principal = agent,
                      .public_key = found == agents_.end() ? "" : found->second.key});
  refresh(effects);
}

}  // namespace farside::vault
