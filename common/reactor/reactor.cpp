#include "common/reactor/reactor.h"

#include <algorithm>
#include <optional>

#include "common/base/log.h"
#include "common/wire/codec.h"

namespace farside::reactor {

Status Reactor::start() {
  Effects effects(parts_.self, parts_.store, parts_.clock.now(), parts_.clock.monotonic(),
                  parts_.random);
  parts_.core.start(effects);
  return finish(effects);
}

std::optional<Micros> Reactor::next_timer() const {
  if (timers_.empty()) return std::nullopt;
  return std::min_element(timers_.begin(), timers_.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->second;
}

Status Reactor::turn(int wait_ms) {
  if (const auto next = next_timer()) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(*next - parts_.clock.monotonic());
    wait_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, wait_ms));
  }

  // What arrives while waiting is kept until the turn's time is known.
  std::vector<std::pair<PeerId, msg::Envelope>> arrived;
  std::vector<PeerChange> changes;
  const Bus::Handlers handlers{
      .on_frame =
          [&](const PeerId& peer, std::string_view frame) {
            if (frame.size() > parts_.limits.frame_bytes_max) {
              ++stats_.refused_frames;
              log::warn("frame refused", {{"peer", peer.principal}, {"bytes", frame.size()}});
              return;
            }
            auto envelope = msg::decode<msg::Envelope>(frame);
            if (!envelope) {
              ++stats_.refused_frames;
              log::warn("frame refused", {{"peer", peer.principal}, {"cause", envelope.error()}});
              return;
            }
            arrived.emplace_back(peer, std::move(*envelope));
          },
      .on_peer = [&](const PeerChange& change) { changes.push_back(change); },
  };
  FARSIDE_TRY(parts_.bus.poll(wait_ms, parts_.limits.turn_messages_max, handlers));

  Effects effects(parts_.self, parts_.store, parts_.clock.now(), parts_.clock.monotonic(),
                  parts_.random);
  for (const auto& change : changes) parts_.core.on_peer(change, effects);
  for (const auto& [peer, envelope] : arrived) {
    ++stats_.messages;
    parts_.core.on_message(peer, envelope, effects);
  }
  parts_.workers.collect([&](const std::string& id, const Result<msg::Message>& result) {
    parts_.core.on_job(id, result, effects);
  });
  fire_timers(effects);
  return finish(effects);
}

void Reactor::fire_timers(Effects& effects) {
  std::vector<std::string> due;
  for (const auto& [name, at] : timers_) {
    if (at <= effects.monotonic()) due.push_back(name);
  }
  for (const auto& name : due) {
    timers_.erase(name);
    parts_.core.on_timer(name, effects);
  }
}

Status Reactor::finish(Effects& effects) {
  if (!effects.writes.empty()) {
    FARSIDE_TRY(parts_.store.commit(effects.writes));
    ++stats_.commits;
  }
  for (auto& effect : effects.effects) carry_out(effect);
  ++stats_.turns;
  stats_.last_turn_micros = parts_.clock.monotonic().count();
  return {};
}

void Reactor::carry_out(Effect& effect) {
  if (auto* sent = std::get_if<SendMessage>(&effect)) {
    parts_.bus.send(sent->peer, msg::encode(sent->envelope));
  } else if (auto* job = std::get_if<StartJob>(&effect)) {
    parts_.workers.start(job->id, std::move(job->request));
  } else if (auto* answer = std::get_if<Answer>(&effect)) {
    parts_.on_answer(answer->id, std::move(answer->body));
  } else if (auto* timer = std::get_if<SetTimer>(&effect)) {
    timers_[timer->name] = parts_.clock.monotonic() + timer->delay;
  } else if (auto* cancelled = std::get_if<CancelTimer>(&effect)) {
    timers_.erase(cancelled->name);
  } else if (auto* peer = std::get_if<SetPeer>(&effect)) {
    if (const auto set = parts_.bus.set_peer(peer->peer); !set) {
      log::error("peer refused", {{"peer", peer->peer.principal}, {"cause", set.error()}});
    }
  } else if (auto* removed = std::get_if<RemovePeer>(&effect)) {
    parts_.bus.remove_peer(removed->principal);
  }
}

}  // namespace farside::reactor
