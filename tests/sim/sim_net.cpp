#include "tests/sim/sim_net.h"

#include <algorithm>

namespace farside::sim {

SimBus::SimBus(SimNet& net, std::string key) : net_(net), key_(std::move(key)) {
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
  peers_[peer.principal] = peer;
  return {};
}

void SimBus::remove_peer(const std::string& principal) {
  peers_.erase(principal);
  connected_.erase(principal);
}

bool SimBus::admits(const std::string& key) const {
  return std::ranges::any_of(peers_, [&](const auto& entry) {
    return entry.second.public_key == key && !entry.second.revoked;
  });
}

bool SimBus::reaches(const msg::Peer& peer) const {
  const auto other = net_.buses_.find(peer.public_key);
  return !peer.revoked && other != net_.buses_.end() && !net_.is_cut(key_, peer.public_key) &&
         other->second->admits(key_);
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
  for (const auto& [principal, peer] : peers_) {
    const bool now = reaches(peer);
    auto& before = connected_[principal];
    if (now == before) continue;
    before = now;
    handlers.on_peer({.peer = {.principal = principal, .role = peer.role}, .connected = now});
  }
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
