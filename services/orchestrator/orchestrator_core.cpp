#include "services/orchestrator/orchestrator_core.h"

#include "common/base/log.h"
#include "services/orchestrator/workflows/all.h"

namespace farside::orchestrator {
namespace {

constexpr std::string_view kTick = "tick";
constexpr Micros kTickEvery = std::chrono::seconds{1};
constexpr std::size_t kJobsTold = 64;  // Per turn; the rest follows with the next.
constexpr std::uint64_t kRetellTicks = 3;

msg::Message outcome(const Status& status, msg::Message accepted) {
  if (status) return accepted;
  return reactor::message(msg::Refused{.fault = flow::to_fault(status.error())});
}

}  // namespace

OrchestratorCore::OrchestratorCore(Probe& probe, flow::EngineLimits limits)
    : probe_(probe),
      engine_(all_workflows(), limits, identity::neighbour_of,
              [this](const flow::Engine::Ended& ended) { probe_.ended(ended); }) {}

void OrchestratorCore::start(reactor::Effects& effects) {
  membership_.start(effects);
  engine_.tick(effects);
  effects.set_timer(std::string(kTick), kTickEvery);
}

void OrchestratorCore::on_timer(const std::string& name, reactor::Effects& effects) {
  if (name != kTick) return;
  engine_.tick(effects);
  if (const auto running = engine_.running(effects.store())) probe_.running(*running);
  if (++ticks_ % kRetellTicks == 0) told_.clear();  // Whatever is not noted by now is told again.
  tell_vault(effects);
  effects.set_timer(std::string(kTick), kTickEvery);
}

void OrchestratorCore::on_peer(const reactor::PeerChange& change, reactor::Effects&) {
  log::info(change.connected ? "peer connected" : "peer silent", {{"peer", change.peer.principal}});
}

void OrchestratorCore::on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                                  reactor::Effects& effects) {
  if (membership_.on_message(peer, envelope, effects)) return;

  if (const auto* progress = std::get_if<msg::Progress>(&envelope.body.value)) {
    if (identity::neighbour_of(envelope.from) == peer.principal) {
      engine_.on_progress(*progress, envelope.from, effects);
    }
  } else if (const auto* noted = std::get_if<msg::JobNoted>(&envelope.body.value)) {
    if (peer.role == msg::Role::vault) engine_.noted(noted->job, noted->revision, effects);
    return;
  } else if (envelope.reply) {
    if (flow::Engine::owns(envelope.id) &&
        identity::neighbour_of(envelope.from) == peer.principal) {
      engine_.on_reply(envelope.id, envelope.from, envelope.body, effects);
    }
  } else {
    on_request(peer, envelope, effects);
  }
  tell_vault(effects);
}

void OrchestratorCore::on_request(const reactor::PeerId& peer, const msg::Envelope& envelope,
                                  reactor::Effects& effects) {
  if (peer.role != msg::Role::vault) {
    log::warn("request refused",
              {{"peer", peer.principal}, {"message", msg::name_of(envelope.body)}});
    effects.reply(peer.principal, envelope,
                  reactor::message(msg::Refused{
                      .fault = flow::to_fault(Error{
                          .code = ErrorCode::kForbidden,
                          .what = "'" + peer.principal + "' may not ask the orchestrator for '" +
                                  std::string(msg::name_of(envelope.body)) + "'",
                          .advice = "operators start jobs through the vault"})}));
    return;
  }
  if (const auto* started = std::get_if<msg::StartWorkflow>(&envelope.body.value)) {
    const auto status = engine_.begin(started->job, started->workflow, started->input, effects);
    effects.reply(peer.principal, envelope,
                  outcome(status, reactor::message(msg::WorkflowAccepted{.job = started->job})));
  } else if (const auto* cancelled = std::get_if<msg::CancelWorkflow>(&envelope.body.value)) {
    const auto status = engine_.cancel(cancelled->job, effects);
    effects.reply(
        peer.principal, envelope,
        outcome(status, reactor::message(msg::WorkflowCancelling{.job = cancelled->job})));
  } else if (const auto* again = std::get_if<msg::RestartWorkflow>(&envelope.body.value)) {
    const auto status = engine_.restart(again->job, effects);
    effects.reply(peer.principal, envelope,
                  outcome(status, reactor::message(msg::WorkflowAccepted{.job = again->job})));
  }
}

// Jobs as the vault shows them are a projection of the flow log: sent until noted.
void OrchestratorCore::tell_vault(reactor::Effects& effects) {
  auto flows = engine_.unnoted(effects.store(), kJobsTold);
  if (!flows) {
    log::error("flows unreadable", {{"cause", flows.error()}});
    return;
  }
  for (auto& flow : *flows) {
    auto& told = told_[flow.id];
    if (told >= flow.revision) continue;
    told = flow.revision;
    flow.state.clear();
    effects.report("vault", msg::JobChanged{.flow = std::move(flow)});
  }
}

}  // namespace farside::orchestrator
