#include "services/provider/provider_core.h"

#include "common/base/log.h"
#include "common/flow/fault.h"
#include "services/provider/placement.h"

namespace farside::provider {
namespace {

constexpr std::string_view kSiteTimer = "read_site";
constexpr std::string_view kReportTimer = "report";
constexpr Micros kSiteEvery = std::chrono::seconds{2};
constexpr Micros kReportEvery = std::chrono::seconds{2};
constexpr std::string_view kSiteJob = "read_site";
constexpr std::string_view kSelf = "self";

bool may_command(const reactor::PeerId& peer) {
  return peer.role == msg::Role::vault || peer.role == msg::Role::orchestrator;
}

// Figures that change with every report do not make a record worth writing.
bool is_same(const msg::HostEntry& stored, const msg::HostEntry& now) {
  msg::HostState a = stored.host;
  msg::HostState b = now.host;
  a.memory_free_mib = b.memory_free_mib = 0;
  for (auto& path : a.storage) path.free_bytes >>= 30U;
  for (auto& path : b.storage) path.free_bytes >>= 30U;
  return a == b && stored.vms == now.vms;
}

}  // namespace

ProviderCore::ProviderCore(std::string site, identity::Issuer issuer, Probe& probe)
    : probe_(probe), site_(std::move(site)), issuer_(issuer), registrar_(std::move(issuer)) {}

void ProviderCore::start(reactor::Effects& effects) {
  membership_.start(effects);
  registrar_.start(effects);
  drop_hosts_of_revoked(effects);
  effects.start(std::string(kSiteJob), reactor::message(msg::ReadSite{}));
  effects.set_timer(std::string(kReportTimer), kReportEvery);
}

// Of agents that were revoked by a release that kept them.
void ProviderCore::drop_hosts_of_revoked(reactor::Effects& effects) {
  const auto known = registrar_.identities(effects.store());
  if (!known) return;
  for (const auto& identity : *known) {
    if (identity.peer.revoked) hosts_.erase(effects.writes, identity.peer.principal);
  }
}

void ProviderCore::on_timer(const std::string& name, reactor::Effects& effects) {
  if (name == kSiteTimer) {
    effects.start(std::string(kSiteJob), reactor::message(msg::ReadSite{}));
  } else if (name == kReportTimer) {
    registrar_.tend(effects);
    auto now = inventory(effects.store());
    if (now) {
      probe_.site(*now);
      room_.fit(*now);
      effects.report("vault", msg::InventoryReport{.inventory = std::move(*now)});
    } else {
      log::error("inventory unreadable", {{"cause", now.error()}});
    }
    effects.set_timer(std::string(kReportTimer), kReportEvery);
  }
}

void ProviderCore::on_job(const std::string& id, const Result<msg::Message>& result,
                          reactor::Effects& effects) {
  if (id != kSiteJob) return;
  effects.set_timer(std::string(kSiteTimer), kSiteEvery);
  if (!result) {
    if (site_fault_ != result.error().what) {
      log::error("site file refused", {{"site", site_}, {"cause", result.error()}});
    }
    site_fault_ = result.error().what;
    probe_.site_file(site_fault_);
    return;
  }
  site_fault_.clear();
  probe_.site_file("");
  const auto* read = std::get_if<msg::SiteRead>(&result->value);
  const auto stored = sites_.get(effects.store(), std::string(kSelf));
  if (read == nullptr || !stored) return;
  if (*stored && **stored == read->site) return;
  sites_.put(effects.writes, std::string(kSelf), read->site);
  log::info("site definition read", {{"site", site_},
                                     {"clouds", read->site.clouds.size()},
                                     {"networks", read->site.networks.size()}});
}

void ProviderCore::on_peer(const reactor::PeerChange& change, reactor::Effects& effects) {
  log::info(change.connected ? "peer connected" : "peer silent", {{"peer", change.peer.principal}});
  if (change.connected) registrar_.heard(change.peer, effects);
  if (change.peer.role != msg::Role::agent) return;
  auto& presence = presence_[change.peer.principal];
  presence.connected = change.connected;
  if (!change.connected) presence.silent_since = effects.now();
}

Result<msg::Inventory> ProviderCore::inventory(const store::Reader& store) const {
  FARSIDE_ASSIGN(const auto definition, sites_.get(store, std::string(kSelf)));
  FARSIDE_ASSIGN(auto rows, hosts_.all(store));
  msg::Inventory out{.site = site_};
  if (definition) {
    out.clouds = definition->clouds;
    out.host_groups = definition->host_groups;
    out.networks = definition->networks;
    out.storage = definition->storage;
  }
  for (auto& [principal, entry] : rows) {
    const auto presence = presence_.find(principal);
    entry.connected = presence != presence_.end() && presence->second.connected;
    entry.silent_since = presence == presence_.end() ? 0 : presence->second.silent_since.micros;
    if (entry.connected) entry.silent_since = 0;
    out.hosts.push_back(std::move(entry));
  }
  return out;
}

void ProviderCore::on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                              reactor::Effects& effects) {
  if (membership_.on_message(peer, envelope, effects)) return;
  if (peer.role == msg::Role::agent) registrar_.heard(peer, effects);
  if (envelope.to != effects.self()) {
    // A registrant cannot know our principal's spelling before it registered; it may say "".
    if (peer.role != msg::Role::registrant) {
      pass_on(peer, envelope, effects);
      return;
    }
  }
  if (const auto* report = std::get_if<msg::HostReport>(&envelope.body.value)) {
    on_host_report(peer, *report, effects);
    return;
  }
  if (envelope.reply || envelope.id.empty()) return;
  auto reply = answer(peer, envelope, effects);
  if (!reply) {
    reply = reactor::message(msg::Refused{.fault = flow::to_fault(reply.error())});
  }
  effects.reply(peer.principal, envelope, std::move(*reply));
}

void ProviderCore::pass_on(const reactor::PeerId& peer, const msg::Envelope& envelope,
                           reactor::Effects& effects) {
  const std::string agents = "agent/" + site_ + "/";
  const bool downwards = envelope.to.starts_with(agents) && may_command(peer);
  const bool upwards = (envelope.to == "vault" || envelope.to == "orchestrator") &&
                       peer.role == msg::Role::agent && envelope.from == peer.principal;
  if (downwards) explain_silence(peer, envelope, effects);
  if (downwards || upwards) {
    effects.send(envelope.to, envelope);
    return;
  }
  log::warn("message not passed on",
            {{"peer", peer.principal}, {"from", envelope.from}, {"to", envelope.to}});
  if (envelope.reply || envelope.id.empty()) return;
  effects.reply(peer.principal, envelope,
                reactor::message(msg::Refused{
                    .fault = flow::to_fault(Error{
                        .code = ErrorCode::kForbidden,
                        .what = "provider of site '" + site_ + "' does not pass messages from '" +
                                peer.principal + "' to '" + envelope.to + "'",
                        .advice = "check the site's name"})}));
}

// Whoever waits for an agent that is away should read so.
void ProviderCore::explain_silence(const reactor::PeerId& peer, const msg::Envelope& envelope,
                                   reactor::Effects& effects) const {
  const auto presence = presence_.find(envelope.to);
  const bool is_there = presence != presence_.end() && presence->second.connected;
  if (is_there || envelope.id.empty() || envelope.reply) return;
  const auto since = presence == presence_.end() || presence->second.silent_since.micros == 0
                         ? std::string("this provider started")
                         : to_iso(presence->second.silent_since);
  effects.report(peer.principal, msg::Progress{.request = envelope.id,
                                               .note = "'" + envelope.to +
                                                       "' has not been heard of since " + since});
}

void ProviderCore::on_host_report(const reactor::PeerId& peer, const msg::HostReport& report,
                                  reactor::Effects& effects) {
  if (peer.role != msg::Role::agent) return;
  const auto agent = registrar_.admitted(effects.store(), peer.principal);
  if (!agent || !*agent) return;  // Revoked while this was under way.
  presence_[peer.principal].connected = true;
  const auto stored = hosts_.get(effects.store(), peer.principal);
  msg::HostEntry now{.host = report.host, .principal = peer.principal, .vms = report.vms};
  if (stored && *stored) {
    // Not observed since its agent started: what was told before stands.
    if (report.host.platform.empty()) {
      now = **stored;
      now.host.problem = report.host.problem;
      now.host.troubles = report.host.troubles;
    }
  }
  // Groups of hosts call it as it was admitted, whatever it calls itself.
  now.host.name = identity::host_of(peer.principal);
  judge_key(**agent, report.host.public_key, now.host);
  if (const auto taken = room_.take(now); !taken) {
    if (stored && *stored && (*stored)->host.problem == taken.error().what) return;  // Said once.
    log::error("report refused", {{"agent", peer.principal}, {"cause", taken.error()}});
    now = stored && *stored
              ? **stored
              : msg::HostEntry{.host = {.name = now.host.name, .public_key = now.host.public_key},
                               .principal = peer.principal};
    now.host.problem = taken.error().what;
  }
  if (stored && *stored && is_same(**stored, now)) return;
  // A change that has to wait comes with a later report.
  if (stored && *stored && !pace_.may_write(peer.principal, effects.monotonic())) return;
  pace_.wrote(peer.principal, room_.bytes_of(peer.principal), effects.monotonic());
  hosts_.put(effects.writes, peer.principal, now);
}

// Its peers at the other site are told this key: it is the one we know the agent by, whatever it
// claims.
void ProviderCore::judge_key(const msg::Identity& agent, const std::string& claimed,
                             msg::HostState& host) {
  host.public_key = agent.peer.public_key;
  auto& odd = odd_keys_[agent.peer.principal];
  if (claimed.empty() || claimed == agent.peer.public_key || claimed == agent.next_key) {
    odd.clear();
    return;
  }
  host.problem += (host.problem.empty() ? "" : "; ") +
                  std::string("its agent claims another data key than it was admitted with");
  if (odd == claimed) return;
  odd = claimed;
  probe_.odd_key(agent.name);
  log::error(
      "foreign data key claimed",
      {{"agent", agent.peer.principal}, {"claimed", claimed}, {"admitted", agent.peer.public_key}});
}

Result<msg::Message> ProviderCore::answer(const reactor::PeerId& peer,
                                          const msg::Envelope& envelope,
                                          reactor::Effects& effects) {
  if (const auto* wanted = std::get_if<msg::Register>(&envelope.body.value)) {
    FARSIDE_ASSIGN(const auto identity, registrar_.admit(peer, *wanted, effects));
    odd_keys_.erase(identity.peer.principal);
    return reactor::message(msg::Registered{.principal = identity.peer.principal,
                                            .site = site_,
                                            .peers = {msg::Peer{.principal = effects.self(),
                                                                .role = msg::Role::provider,
                                                                .public_key = issuer_.public_key,
                                                                .endpoint = issuer_.endpoint,
                                                                .revoked = false,
                                                                .site = site_}}});
  }
  if (const auto* wanted = std::get_if<msg::RotateKey>(&envelope.body.value)) {
    FARSIDE_ASSIGN(auto rotated, registrar_.rotate(peer, *wanted, effects));
    return reactor::message(std::move(rotated));
  }
  if (!may_command(peer)) {
    return fail(ErrorCode::kForbidden,
                "'" + peer.principal + "' may not ask a provider for '" +
                    std::string(msg::name_of(envelope.body)) + "'",
                "only vault and orchestrator may");
  }
  return answer_site(envelope, effects);
}

Result<msg::Message> ProviderCore::answer_site(const msg::Envelope& envelope,
                                               reactor::Effects& effects) {
  const auto& body = envelope.body.value;
  if (const auto* wanted = std::get_if<msg::PlaceReplica>(&body)) {
    return place_replica(*wanted, effects);
  }
  if (const auto* released = std::get_if<msg::ReleasePlacement>(&body)) {
    placements_.erase(effects.writes, released->item);
    return reactor::message(msg::PlacementReleased{.item = released->item});
  }
  if (const auto* wanted = std::get_if<msg::ResolveNetworks>(&body)) {
    return resolve(*wanted, effects);
  }
  if (const auto* wanted = std::get_if<msg::IssueToken>(&body)) {
    FARSIDE_ASSIGN(auto key, registrar_.issue({.name = wanted->name,
                                               .role = msg::Role::agent,
                                               .site = site_,
                                               .host = wanted->host,
                                               .valid = std::chrono::hours{wanted->valid_hours},
                                               .replaces_unused = true},
                                              effects));
    return reactor::message(msg::TokenIssued{.key = std::move(key)});
  }
  if (const auto* revoked = std::get_if<msg::RevokeAgent>(&body)) {
    return revoke(*revoked, effects);
  }
  return fail(ErrorCode::kUnsupported,
              "a provider does not answer '" + std::string(msg::name_of(envelope.body)) + "'",
              "both sides must run the same release");
}

// What stands for the agent's host goes with it: nothing speaks for that any more.
Result<msg::Message> ProviderCore::revoke(const msg::RevokeAgent& wanted,
                                          reactor::Effects& effects) {
  FARSIDE_ASSIGN(auto key, registrar_.revoke(wanted.principal, wanted.public_key, effects));
  FARSIDE_ASSIGN(const auto still, registrar_.admitted(effects.store(), wanted.principal));
  if (!still) {
    hosts_.erase(effects.writes, wanted.principal);
    presence_.erase(wanted.principal);
    odd_keys_.erase(wanted.principal);
  }
  return reactor::message(
      msg::AgentRevoked{.principal = wanted.principal, .public_key = std::move(key)});
}

Result<msg::Message> ProviderCore::place_replica(const msg::PlaceReplica& wanted,
                                                 reactor::Effects& effects) {
  FARSIDE_ASSIGN(auto placed, placements_.get(effects.store(), wanted.item));
  if (!placed) {
    FARSIDE_ASSIGN(const auto site, inventory(effects.store()));
    FARSIDE_ASSIGN(const auto rows, placements_.all(effects.store()));
    std::vector<msg::Placement> others;
    for (const auto& [item, placement] : rows) others.push_back(placement);
    FARSIDE_ASSIGN(placed, place(wanted, site, others));
    placements_.put(effects.writes, wanted.item, *placed);
    log::info("replica placed",
              {{"item", wanted.item}, {"agent", placed->agent}, {"path", placed->storage_path}});
  }
  return reactor::message(msg::ReplicaPlaced{
      .item = wanted.item, .agent = placed->agent, .storage_path = placed->storage_path});
}

Result<msg::Message> ProviderCore::resolve(const msg::ResolveNetworks& wanted,
                                           reactor::Effects& effects) {
  FARSIDE_ASSIGN(const auto site, inventory(effects.store()));
  msg::NetworksResolved resolved;
  for (const auto& network : wanted.networks) {
    FARSIDE_ASSIGN(auto name, host_network(site, network));
    resolved.host_networks.push_back(std::move(name));
  }
  return reactor::message(std::move(resolved));
}

}  // namespace farside::provider
