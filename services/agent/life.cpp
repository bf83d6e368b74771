// The part of AgentCore that waits for a sign of life of a test VM: it looks every second, so that
// a hundred drills at once keep no worker waiting.
#include <algorithm>

#include "services/agent/agent_core.h"

namespace farside::agent {
namespace {

constexpr Micros kLookEvery = std::chrono::seconds{1};
constexpr std::uint32_t kSecondsMax = 3'600;

}  // namespace

Status AgentCore::await_life(const msg::AwaitLife& order, const msg::Envelope& envelope,
                             reactor::Effects& effects) {
  FARSIDE_ASSIGN(const auto replica, replicas_.get(effects.store(), order.item));
  if (!replica || replica->test_vm.empty()) {
    return fail(ErrorCode::kNotFound, "item '" + order.item + "' has no test VM on this host",
                "start a test failover");
  }
  const bool is_new = !lives_.contains(order.item);
  auto& waiting = lives_[order.item];
  waiting.envelope = envelope;
  waiting.vm = replica->test_vm;
  if (is_new) {
    const auto seconds = std::min(order.seconds, kSecondsMax);
    waiting.until = effects.monotonic() + std::chrono::seconds{seconds};
    look_for_life(order.item, effects);
  }
  return {};
}

void AgentCore::look_for_life(const std::string& item, reactor::Effects& effects) {
  const auto waiting = lives_.find(item);
  if (waiting == lives_.end()) return;
  effects.start("life/" + item,
                reactor::message(msg::AwaitLife{.item = item, .vm = waiting->second.vm}));
}

void AgentCore::on_life(const std::string& item, const Result<msg::Message>& result,
                        reactor::Effects& effects) {
  const auto waiting = lives_.find(item);
  if (waiting == lives_.end()) return;
  const auto& envelope = waiting->second.envelope;
  const auto* seen = result ? std::get_if<msg::LifeSeen>(&result->value) : nullptr;
  const bool is_gone = !result && result.error().code == ErrorCode::kNotFound;
  const bool is_over = effects.monotonic() >= waiting->second.until;
  const auto note = [&](std::string text) {
    upwards(envelope.from,
            reactor::message(msg::Progress{.request = envelope.id, .note = std::move(text)}),
            effects);
  };
  if (is_gone) {
    reply(envelope, result, effects);
  } else if (seen != nullptr && !seen->sign.empty()) {
    note(seen->sign);
    reply(envelope, *result, effects);
  } else if (is_over) {
    note(result ? "none: not confirmed" : "none: " + result.error().what);
    reply(envelope, reactor::message(msg::LifeSeen{.item = item, .sign = {}}), effects);
  } else {
    note(result ? "no sign of life yet" : result.error().what);
    effects.set_timer("life/" + item, kLookEvery);
    return;
  }
  lives_.erase(waiting);
}

}  // namespace farside::agent
