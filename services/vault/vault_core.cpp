#include "services/vault/vault_core.h"

#include <algorithm>
#include <set>

#include "common/base/clip.h"
#include "common/base/log.h"
#include "common/flow/fault.h"
#include "services/vault/hearsay.h"
#include "services/vault/item_health.h"

namespace farside::vault {
namespace {

constexpr std::string_view kTick = "tick";
constexpr Micros kTickEvery = std::chrono::seconds{2};
constexpr std::string_view kHttpPrefix = "http/";
constexpr std::string_view kJobPrefix = "job/";

constexpr std::size_t kNamedMax = 5;

// The VMs that must not run on this host, in words; empty: none.
std::string fenced_on(const msg::HostEntry& host) {
  std::string names;
  std::size_t count = 0;
  for (const auto& vm : host.vms) {
    if (!vm.fenced || ++count > kNamedMax) continue;
    names += (names.empty() ? "'" : ", '") + clipped(vm.name, kNoteMax) + "'";
  }
  return count > kNamedMax ? names + " and " + std::to_string(count - kNamedMax) + " more" : names;
}

bool is_agent_of(const std::string& principal, const reactor::PeerId& provider) {
  // "agent/<site>/<host>" behind "provider/<site>".
  return identity::is_agent_of(principal, identity::site_of(provider.principal));
}

// A provider speaks of the agents of its own site only, and of each once.
void keep_own(std::vector<msg::HostEntry>& hosts, const reactor::PeerId& provider) {
  std::set<std::string> seen;
  std::erase_if(hosts, [&](const auto& host) {
    return !host.principal.empty() &&
           (!is_agent_of(host.principal, provider) || !seen.insert(host.principal).second);
  });
}

// What it stands at: where an undo failed, that is not what it began to unwind for.
msg::Fault why_stuck(const msg::FlowRecord& flow) {
  if (flow.step < flow.steps.size()) {
    const auto& step = flow.steps[flow.step];
    if (step.state == msg::StepState::undoFailed && step.fault) {
      auto fault = *step.fault;
      fault.what = "'" + step.title + "' could not be undone: " + fault.what;
      return fault;
    }
  }
  return flow.fault.value_or(
      msg::Fault{.code = static_cast<std::uint16_t>(ErrorCode::kConflict), .what = flow.workflow});
}

}  // namespace

VaultCore::VaultCore(VaultSettings settings, identity::Issuer issuer, Probe& probe)
    : probe_(probe),
      issuer_(issuer),
      registrar_(std::move(issuer)),
      desk_(catalog_),
      settings_(catalog_, registrar_),
      rest_(std::move(settings), catalog_, desk_, settings_, registrar_) {}

void VaultCore::start(reactor::Effects& effects) {
  registrar_.start(effects);
  if (const auto identities = registrar_.identities(effects.store())) {
    for (const auto& identity : *identities) {
      const auto& peer = identity.peer;
      if (peer.role != msg::Role::provider || !peer.revoked) continue;
      catalog_.forget_site(effects.writes, peer.site);
    }
  }
  points_.start(effects.store(), effects.now());
  settings_.refresh(effects);
  for (const auto& site : Catalog::rows(catalog_.inventories, effects.store())
                              .value_or(std::vector<msg::Inventory>{})) {
    for (const auto& host : site.hosts) note_fences(host);
  }
  effects.set_timer(std::string(kTick), kTickEvery);
}

void VaultCore::on_timer(const std::string& name, reactor::Effects& effects) {
  if (name != kTick) return;
  registrar_.tend(effects);
  desk_.ask(effects);
  introduce(effects);
  rest_.tick(effects);
  settings_.refresh(effects);
  settings_.remind(effects);
  if (const auto items = Catalog::rows(catalog_.items, effects.store())) {
    find_stuck(*items, effects.store());
    points_.check(*items, catalog_, effects);
    probe_.items(*items, catalog_.live);
    probe_.health(health_of(*items, catalog_.live));
  }
  probe_.peers(catalog_.live);
  effects.set_timer(std::string(kTick), kTickEvery);
}

// A job that waits for an operator is what is wrong with its item until somebody acts.
void VaultCore::find_stuck(const std::vector<msg::ProtectedItem>& items,
                           const store::Reader& store) {
  catalog_.live.stuck.clear();
  for (const auto& item : items) {
    if (item.job.empty()) continue;
    const auto job = catalog_.jobs.get(store, item.job);
    if (!job || !*job || (*job)->flow.phase != msg::FlowPhase::needsOperator) continue;
    catalog_.live.stuck[item.id] = Stuck{.job = item.job, .fault = why_stuck((*job)->flow)};
  }
}

void VaultCore::on_peer(const reactor::PeerChange& change, reactor::Effects& effects) {
  log::info(change.connected ? "peer connected" : "peer silent", {{"peer", change.peer.principal}});
  if (change.peer.role != msg::Role::registrant) {
    catalog_.live.connected[change.peer.principal] = change.connected;
  }
  if (!change.connected) return;
  registrar_.heard(change.peer, effects);
  introduce(effects);
  settings_.remind(effects);
}

void VaultCore::on_job(const std::string& id, const Result<msg::Message>& result,
                       reactor::Effects& effects) {
  if (!id.starts_with(kHttpPrefix) || !result) return;
  if (const auto* request = std::get_if<msg::HttpRequest>(&result->value)) {
    rest_.on_request(id, *request, effects);
  }
}

void VaultCore::on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                           reactor::Effects& effects) {
  const auto& asked = envelope.body.value;
  if (std::holds_alternative<msg::Register>(asked) ||
      std::holds_alternative<msg::RotateKey>(asked)) {
    auto reply = answer(peer, envelope, effects);
    if (!reply) {
      log::warn("registration refused", {{"peer", peer.principal}, {"cause", reply.error()}});
      reply = reactor::message(msg::Refused{.fault = flow::to_fault(reply.error())});
    }
    effects.reply(peer.principal, envelope, std::move(*reply));
    return;
  }
  if (peer.role != msg::Role::registrant) registrar_.heard(peer, effects);
  // A provider speaks for itself and passes on what its own agents say.
  const bool speaks_for_itself = envelope.from == peer.principal;
  const bool passes_on = peer.role == msg::Role::provider && is_agent_of(envelope.from, peer);
  if (!speaks_for_itself && !passes_on) {
    log::warn("message refused", {{"peer", peer.principal}, {"from", envelope.from}});
    return;
  }
  if (envelope.reply) {
    const auto* refused = std::get_if<msg::Refused>(&envelope.body.value);
    if (envelope.id.starts_with(kJobPrefix) && peer.role == msg::Role::orchestrator) {
      const auto job = envelope.id.substr(kJobPrefix.size());
      if (refused != nullptr) {
        desk_.refused(job, flow::to_error(refused->fault), effects);
      } else {
        desk_.accepted(job, effects);
      }
    } else if (!settings_.on_reply(peer, envelope, effects)) {
      rest_.on_reply(envelope, effects);
    }
    return;
  }
  on_report(peer, envelope, effects);
}

void VaultCore::on_report(const reactor::PeerId& peer, const msg::Envelope& envelope,
                          reactor::Effects& effects) {
  const auto& body = envelope.body.value;
  if (peer.role == msg::Role::orchestrator) {
    if (const auto* changed = std::get_if<msg::JobChanged>(&body)) {
      desk_.changed(*changed, effects);
    } else if (const auto* recorded = std::get_if<msg::RecordItem>(&body)) {
      const auto status = desk_.record(recorded->change, effects);
      effects.reply(peer.principal, envelope,
                    status
                        ? reactor::message(msg::ItemRecorded{.item = recorded->change.item})
                        : reactor::message(msg::Refused{.fault = flow::to_fault(status.error())}));
    }
  } else if (const auto* report = std::get_if<msg::InventoryReport>(&body)) {
    // Only from a provider itself.
    if ("provider/" + report->inventory.site == envelope.from) {
      on_inventory(peer, report->inventory, effects);
    }
  } else if (settings_.is_revoked(envelope.from)) {
    return;  // Its provider still passes on what it says.
  } else if (const auto* status = std::get_if<msg::StatusReport>(&body)) {
    for (const auto& one : status->statuses) {
      const auto item = catalog_.items.get(effects.store(), one.item);
      if (item && *item && (*item)->source_agent == envelope.from) {
        auto& kept = catalog_.live.sources[one.item];
        kept = one;
        cut(kept);
        points_.on_report(one.item, PointWatch::Side::source, one.newest, effects.now());
      }
      settings_.on_source(envelope.from, one, effects);
    }
  } else if (const auto* replicas = std::get_if<msg::ReplicaReport>(&body)) {
    for (const auto& one : replicas->replicas) {
      const auto item = catalog_.items.get(effects.store(), one.item);
      if (item && *item && (*item)->target_agent == envelope.from) {
        auto& kept = catalog_.live.replicas[one.item];
        kept = one;
        cut(kept);
        points_.on_report(one.item, PointWatch::Side::target, one.newest, effects.now());
      }
      settings_.on_replica(envelope.from, one, effects);
    }
  }
}

void VaultCore::note_fences(const msg::HostEntry& host) {
  const auto fenced = fenced_on(host);
  if (fenced.empty() || settings_.is_revoked(host.principal)) return;
  catalog_.live.fences[host.principal] = fenced;
}

void VaultCore::on_inventory(const reactor::PeerId& peer, msg::Inventory inventory,
                             reactor::Effects& effects) {
  const auto identities = registrar_.identities(effects.store());
  if (!identities) return;
  const bool is_revoked = std::ranges::any_of(*identities, [&](const auto& identity) {
    return identity.peer.principal == peer.principal && identity.peer.revoked;
  });
  if (is_revoked) return;  // It was under way when that happened.
  auto& live = catalog_.live;
  live.heard_at[inventory.site] = effects.now().micros;
  const auto is_own = [&](const auto& one) { return is_agent_of(one.first, peer); };
  std::erase_if(live.host_problems, is_own);
  std::erase_if(live.troubles, is_own);
  std::erase_if(live.fences, is_own);
  std::erase_if(live.connected, is_own);  // Those that left the inventory are heard of no more.
  keep_own(inventory.hosts, peer);
  for (auto& host : inventory.hosts) {
    cut(host.host);
    if (host.principal.empty()) continue;
    live.connected[host.principal] = host.connected && !settings_.is_revoked(host.principal);
    if (!host.host.problem.empty()) live.host_problems[host.principal] = host.host.problem;
    note_fences(host);
    if (!host.host.troubles.empty()) live.troubles[host.principal] = host.host.troubles;
  }
  // Free space and memory move all the time; what is stored is what was there at the last
  // change of anything else, which is enough to answer before the provider is back.
  const auto stored = catalog_.inventories.get(effects.store(), inventory.site);
  if (stored && *stored && **stored == inventory) return;
  // One that is new is told at once; a change that has to wait comes with a later report.
  if (stored && *stored && !pace_.may_write(inventory.site, effects.monotonic())) return;
  pace_.wrote(inventory.site, msg::encode(inventory).size(), effects.monotonic());
  catalog_.inventories.put(effects.writes, inventory.site, inventory);
}

Result<msg::Message> VaultCore::answer(const reactor::PeerId& peer, const msg::Envelope& envelope,
                                       reactor::Effects& effects) {
  if (const auto* wanted = std::get_if<msg::Register>(&envelope.body.value)) {
    return admit(peer, *wanted, effects);
  }
  FARSIDE_ASSIGN(auto rotated,
                 registrar_.rotate(peer, std::get<msg::RotateKey>(envelope.body.value), effects));
  return reactor::message(std::move(rotated));
}

Result<msg::Message> VaultCore::admit(const reactor::PeerId& peer, const msg::Register& wanted,
                                      reactor::Effects& effects) {
  FARSIDE_ASSIGN(const auto identity, registrar_.admit(peer, wanted, effects));
  introduce(effects);
  return reactor::message(msg::Registered{.principal = identity.peer.principal,
                                          .site = identity.peer.site,
                                          .peers = peers_for(identity.peer.role, effects)});
}

// Whom a process of this role talks to.
std::vector<msg::Peer> VaultCore::peers_for(msg::Role role, reactor::Effects& effects) const {
  std::vector<msg::Peer> out{msg::Peer{.principal = effects.self(),
                                       .role = msg::Role::vault,
                                       .public_key = issuer_.public_key,
                                       .endpoint = issuer_.endpoint}};
  const auto identities = registrar_.identities(effects.store());
  if (!identities) return out;
  const auto wanted =
      role == msg::Role::orchestrator ? msg::Role::provider : msg::Role::orchestrator;
  for (const auto& identity : *identities) {
    if (identity.peer.role != wanted) continue;
    auto peer = identity.peer;
    // Providers dial the orchestrator, never the other way round.
    if (wanted == msg::Role::provider) peer.endpoint.clear();
    out.push_back(std::move(peer));
  }
  return out;
}

// Tells everybody whom to talk to; repeated, so that a lost message heals by itself.
void VaultCore::introduce(reactor::Effects& effects) {
  const auto identities = registrar_.identities(effects.store());
  if (!identities) return;
  for (const auto& identity : *identities) {
    if (identity.peer.revoked || !catalog_.live.connected[identity.peer.principal]) continue;
    effects.report(identity.peer.principal,
                   msg::PeersChanged{.peers = peers_for(identity.peer.role, effects)});
  }
}

}  // namespace farside::vault
