#include "services/vault/settings_desk.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/sha256.h"
#include "common/identity/key_file.h"
#include "common/identity/registrar.h"
#include "common/schema/control.plain.h"

namespace farside::vault {
namespace {

constexpr Micros kTellEvery = std::chrono::seconds{5};
constexpr std::string_view kRevokePrefix = "revoke/";
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
  const auto identities = registrar_.identities(effects.store());
  // What was read before stays.
  if (!sites || !all || !revoked || !mappings || !identities) return;
  read_agents(*sites);
  read_revoked(*identities, *revoked);
  find_shared_keys(*identities);
  disks_.clear();
  networks_.clear();
  for (const auto& site : *sites) {
    for (const auto& entry : site.hosts) {
      for (const auto& vm : entry.vms) disks_[{entry.principal, vm.id}] = believable(vm);
    }
    for (const auto& mapping : *mappings) {
      if (mapping.target_site != site.site) continue;
      networks_[{mapping.source_site, mapping.target_site}].push_back(
          {.source = mapping.source_network, .target = host_network(site, mapping.target_network)});
    }
  }
  policies_.clear();
  for (const auto& policy : *all) policies_[policy.name] = policy;
  unknown_.clear();
  std::erase_if(told_,
                [&](const auto& told) { return effects.monotonic() - told.second > kTellEvery; });
}

void SettingsDesk::read_agents(const std::vector<msg::Inventory>& sites) {
  agents_.clear();
  for (const auto& site : sites) {
    for (const auto& entry : site.hosts) {
      // What a release before this one recorded was not judged.
      if (!identity::is_agent_of(entry.principal, site.site)) continue;
      agents_[entry.principal] =
          Agent{.key = entry.host.public_key, .endpoint = entry.host.data_endpoint};
    }
  }
}

// A key that two claim belongs to one of them at most, and nothing here says to which.  What their
// peers were told before stays in force.
void SettingsDesk::find_shared_keys(const std::vector<msg::Identity>& identities) {
  std::map<std::string, std::vector<std::string>> claims;  // By key: principals.
  for (const auto& [principal, agent] : agents_) {
    if (!agent.key.empty() && !is_revoked(principal)) claims[agent.key].push_back(principal);
  }
  for (const auto& identity : identities) {
    if (identity.peer.revoked) continue;
    const auto claimed = claims.find(identity.peer.public_key);
    if (claimed != claims.end()) claimed->second.push_back(identity.peer.principal);
  }
  auto& problems = catalog_.live.key_problems;
  const auto before = std::exchange(problems, {});
  for (const auto& [key, principals] : claims) {
    if (principals.size() < 2) continue;
    for (const auto& principal : principals) {
      const auto agent = agents_.find(principal);
      if (agent == agents_.end()) continue;
      agent->second.key.clear();
      agent->second.endpoint.clear();
      const auto other = principals[principals.front() == principal ? 1 : 0];
      problems[principal] = "its data key is also claimed by '" + other +
                            "': neither is told to anybody until one of them has another";
      if (before.contains(principal)) continue;
      log::error("data key claimed twice", {{"agent", principal}, {"other", other}, {"key", key}});
    }
  }
}

void SettingsDesk::read_revoked(const std::vector<msg::Identity>& identities,
                                const std::vector<msg::RevokedKey>& revoked) {
  revoked_sites_.clear();
  for (const auto& identity : identities) {
    const auto& peer = identity.peer;
    if (peer.role == msg::Role::provider && peer.revoked) revoked_sites_.insert(peer.site);
  }
  for (const auto& one : revoked) {
    // Once the host has joined again it has another key; a provider that has not confirmed that it
    // revoked the first cannot have admitted it with the second.
    auto& agent = agents_[one.principal];
    agent.revoked = one.untold || agent.key.empty() || agent.key == one.public_key;
  }
}

bool SettingsDesk::is_revoked(const std::string& agent) const {
  const auto found = agents_.find(agent);
  if (found != agents_.end() && found->second.revoked) return true;
  return std::ranges::any_of(revoked_sites_,
                             [&](const auto& site) { return identity::is_agent_of(agent, site); });
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
  }
  out.peer_revoked = is_revoked(peer);
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

msg::ItemSettings SettingsDesk::for_target(const msg::ProtectedItem& item) const {
  auto out = settings_of(item, item.source_agent);
  out.peer_endpoint.clear();  // A target dials nobody.
  out.disks = disks_of(item);
  out.vm_name = item.vm_name;
  out.networks = networks_of(item);
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

// Of made-up items there is no end; those on record keep their place.
bool SettingsDesk::is_new_and_too_many(const Told& one) {
  constexpr std::size_t kUnknownMax = 10'000;
  if (unknown_.contains(one)) return false;
  if (unknown_.size() >= kUnknownMax) return true;
  unknown_.insert(one);
  return false;
}

void SettingsDesk::on_source(const std::string& agent, const msg::ReplicationStatus& reported,
                             reactor::Effects& effects) {
  const auto item = catalog_.items.get(effects.store(), reported.item);
  if (!item) return;  // Unreadable is not the same as gone.
  const bool ended = !*item || (*item)->source_agent != agent ||
                     (*item)->state == msg::ItemState::committed ||
                     ((*item)->state == msg::ItemState::enableFailed && (*item)->job.empty());
  if (ended) {
    if (reported.item.empty() || (!*item && is_new_and_too_many({agent, reported.item}))) return;
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
    if (is_new_and_too_many({agent, reported.item})) return;
    auto& told = told_[{agent, reported.item}];
    if (told != Micros{0}) return;
    told = effects.monotonic();
    log::warn("replica without a protected item", {{"agent", agent}, {"item", reported.item}});
    return;
  }
  if ((*item)->state == msg::ItemState::committed) return;
  if (!policies_.contains((*item)->policy)) return;
  tell(agent, for_target(**item), reported.settings, effects);
}

void SettingsDesk::changed(const msg::ProtectedItem& item, reactor::Effects& effects) {
  if (!policies_.contains(item.policy)) return;
  told_.erase({item.source_agent, item.id});
  tell(item.source_agent, for_source(item), "", effects);
}

void SettingsDesk::tell_peers(const std::function<bool(const std::string& agent)>& concerns,
                              reactor::Effects& effects) {
  const auto items = Catalog::rows(catalog_.items, effects.store());
  if (!items) return;
  for (const auto& item : *items) {
    if (item.state == msg::ItemState::committed || !policies_.contains(item.policy)) continue;
    if (!item.target_agent.empty() && concerns(item.target_agent)) {
      told_.erase({item.source_agent, item.id});
      tell(item.source_agent, for_source(item), "", effects);
    }
    if (!item.target_agent.empty() && concerns(item.source_agent)) {
      told_.erase({item.target_agent, item.id});
      tell(item.target_agent, for_target(item), "", effects);
    }
  }
}

Result<bool> SettingsDesk::revoke(const std::string& agent, reactor::Effects& effects) {
  const auto site = identity::site_of(agent);
  if (!identity::is_agent_of(agent, site)) {
    return fail(ErrorCode::kInvalidArgument, "'" + agent + "' is not the principal of an agent",
                "write it as `farside identity list` shows it: agent/SITE/HOST");
  }
  // As its provider reports it, also if another claims the same key.
  std::string key;
  bool is_known = false;
  if (const auto inventory = catalog_.inventories.get(effects.store(), site);
      inventory && *inventory) {
    for (const auto& entry : (*inventory)->hosts) {
      if (entry.principal != agent) continue;
      key = entry.host.public_key;
      is_known = true;
    }
  }
  catalog_.revoked.put(effects.writes, agent,
                       {.principal = agent, .public_key = key, .untold = true});
  catalog_.live.connected[agent] = false;
  catalog_.live.fences.erase(agent);
  log::warn("agent revoked", {{"agent", agent}});
  refresh(effects);
  tell_peers([&](const std::string& one) { return one == agent; }, effects);
  reminded_.erase(agent);
  remind(effects);
  return is_known;
}

void SettingsDesk::revoke_site(const std::string& site, reactor::Effects& effects) {
  catalog_.forget_site(effects.writes, site);
  refresh(effects);
  tell_peers([&](const std::string& one) { return identity::is_agent_of(one, site); }, effects);
}

void SettingsDesk::remind(reactor::Effects& effects) {
  const auto revoked = Catalog::rows(catalog_.revoked, effects.store());
  if (!revoked) return;
  for (const auto& one : *revoked) {
    const auto provider = identity::neighbour_of(one.principal);
    if (!one.untold || !catalog_.live.is_connected(provider)) continue;
    auto& at = reminded_[one.principal];
    if (at != Micros{0} && effects.monotonic() - at < kTellEvery) continue;
    at = effects.monotonic();
    effects.request(provider, provider, std::string(kRevokePrefix) + one.principal,
                    msg::RevokeAgent{.principal = one.principal, .public_key = one.public_key});
  }
}

// Its provider may be another than the one that admitted it.
bool SettingsDesk::has_items(const std::string& agent, const store::Reader& store) const {
  const auto items = Catalog::rows(catalog_.items, store);
  return !items || std::ranges::any_of(*items, [&](const msg::ProtectedItem& item) {
    return item.source_agent == agent || item.target_agent == agent;
  });
}

bool SettingsDesk::on_reply(const reactor::PeerId& peer, const msg::Envelope& envelope,
                            reactor::Effects& effects) {
  if (!envelope.id.starts_with(kRevokePrefix)) return false;
  const auto agent = envelope.id.substr(kRevokePrefix.size());
  if (peer.principal != identity::neighbour_of(agent) || envelope.from != peer.principal) {
    return true;  // Nobody else speaks for that site.
  }
  auto stored = catalog_.revoked.get(effects.store(), agent);
  if (!stored || !*stored || !(*stored)->untold) return true;
  auto& record = **stored;
  if (const auto* done = std::get_if<msg::AgentRevoked>(&envelope.body.value)) {
    if (record.public_key.empty()) record.public_key = done->public_key;
  } else {
    const auto* refused = std::get_if<msg::Refused>(&envelope.body.value);
    const auto code =
        refused == nullptr ? ErrorCode::kInternal : static_cast<ErrorCode>(refused->fault.code);
    if (code != ErrorCode::kNotFound) {
      log::warn("revocation not confirmed", {{"agent", agent}, {"by", peer.principal}});
      return true;  // Told again.
    }
    if (record.public_key.empty() && !has_items(agent, effects.store())) {  // Nobody knows it.
      catalog_.revoked.erase(effects.writes, agent);
      log::warn("revocation of an unknown agent", {{"agent", agent}});
      refresh(effects);
      return true;
    }
  }
  record.untold = false;
  catalog_.revoked.put(effects.writes, agent, record);
  log::info("revocation confirmed", {{"agent", agent}, {"by", peer.principal}});
  refresh(effects);
  return true;
}

}  // namespace farside::vault
