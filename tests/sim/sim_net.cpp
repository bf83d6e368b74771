#include "tests/sim/sim_net.h"

#include <algorithm>

namespace farside::sim {

SimBus::SimBus(SimNet& net, std::string key)
    : net_(net), key_(std::move(key)), polled_(net.clock_.monotonic()) {
  net_.buses_[key_] = this;
  net_.inboxes_[key_].clear();  // What was under way to a dead process is gone.
}

SimBus::~SimBus() {
  net_.buses_.erase(key_);
}

Status SimBus::set_peer(const msg::Peer& peer) {
  if (peer.public_key.empty()) {
    return fail(ErrorCode::kInvalidArgument, "peer '" + peer.principal + "' has no key");
  }
  for (const auto& [principal, other] : peers_) {
    if (principal != peer.principal && other.public_key == peer.public_key) {
      return fail(ErrorCode::kConflict,
                  "the key of '" + peer.principal + "' is that of '" + principal + "'");
    }
  }
  peers_[peer.principal] = peer;
  return {};
}

void SimBus::remove_peer(const std::string& principal) {
  peers_.erase(principal);
}

bool SimBus::admits(const std::string& key) const {
  return std::ranges::any_of(peers_, [&](const auto& entry) {
    return entry.second.public_key == key && !entry.second.revoked;
  });
}

bool SimBus::reaches(const msg::Peer& peer) const {
  const auto other = net_.buses_.find(peer.public_key);
  return !peer.revoked && other != net_.buses_.end() && !net_.is_cut(key_, peer.public_key) &&
         other->second->admits(key_) &&
         net_.clock_.monotonic() - other->second->polled_ <= net_.silent_after;
}

// Whoever dials and is not admitted is refused at once, and counted.
void SimBus::shake_hands(const msg::Peer& peer) const {
  const auto other = net_.buses_.find(peer.public_key);
  const bool dials = !peer.endpoint.empty() && !peer.revoked && other != net_.buses_.end() &&
                     !net_.is_cut(key_, peer.public_key);
  if (dials && !other->second->admits(key_)) ++other->second->refused_keys;
}

void SimBus::tell_changes(const Handlers& handlers) {
  const auto peers = peers_;  // Handlers may change them.
  for (const auto& [principal, peer] : peers) {
    shake_hands(peer);
    const bool now = reaches(peer);
    if (now == connected_.contains(principal)) continue;
    const reactor::PeerId id{.principal = principal, .role = peer.role};
    if (now) {
      connected_[principal] = id;
    } else {
      connected_.erase(principal);
    }
    handlers.on_peer({.peer = id, .connected = now});
  }
  std::vector<reactor::PeerId> removed;
  for (const auto& [principal, id] : connected_) {
    if (!peers_.contains(principal)) removed.push_back(id);
  }
  for (const auto& id : removed) {
    connected_.erase(id.principal);
    handlers.on_peer({.peer = id, .connected = false});
  }
}

void SimBus::send(const std::string& principal, std::string frame) {
  const auto peer = peers_.find(principal);
  if (muted_) return;
  if (peer == peers_.end() || peer->second.revoked || !net_.is_up(peer->second.public_key) ||
      net_.is_cut(key_, peer->second.public_key)) {
    ++dropped;
    return;
  }
  auto& inbox = net_.inboxes_[peer->second.public_key];
  const int copies = net_.random_.chance(net_.faults.repeat) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    if (inbox.size() >= net_.queue_max) {
      ++dropped;
      continue;
    }
    if (net_.random_.chance(net_.faults.loss)) continue;
    const auto delay =
        net_.random_.below(static_cast<std::uint64_t>(net_.faults.delay_max.count()) + 1);
    inbox.push_back({.from_key = key_,
                     .bytes = frame,
                     .at = net_.clock_.monotonic() + Micros{static_cast<std::int64_t>(delay)}});
  }
}

Status SimBus::poll(int, int frames_max, const Handlers& handlers) {
  polled_ = net_.clock_.monotonic();
  if (handlers.on_peer) tell_changes(handlers);
  auto& inbox = net_.inboxes_[key_];
  std::vector<SimNet::Frame> due;
  std::vector<SimNet::Frame> later;
  for (auto& frame : inbox) {
    const bool is_due =
        frame.at <= net_.clock_.monotonic() && due.size() < static_cast<std::size_t>(frames_max);
    (is_due ? due : later).push_back(std::move(frame));
  }
  inbox = std::move(later);
  std::ranges::stable_sort(due, {}, &SimNet::Frame::at);
  for (const auto& frame : due) {
    const auto known = std::ranges::find_if(
        peers_, [&](const auto& entry) { return entry.second.public_key == frame.from_key; });
    if (known == peers_.end()) {
      ++refused_keys;
    } else if (known->second.revoked) {
      ++refused_frames;
    } else {
      handlers.on_frame({.principal = known->first, .role = known->second.role}, frame.bytes);
    }
  }
  return {};
}

}  // namespace farside::sim
