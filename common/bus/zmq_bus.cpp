#include "common/bus/zmq_bus.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <variant>
#include <vector>
#include <zmq.hpp>

#include "common/base/assert.h"
#include "common/base/endpoint.h"
#include "common/base/log.h"
#include "common/bus/curve_server.h"
#include "common/bus/listener.h"

namespace farside::bus {
namespace {

using reactor::PeerChange;
using reactor::PeerId;

constexpr Micros kConnectProbe = std::chrono::milliseconds(100);

zmq::message_t to_message(std::string frame) {
  if (frame.size() < 512) return zmq::message_t(frame.data(), frame.size());
  auto* kept = new std::string(std::move(frame));  // Handed to libzmq, freed once sent.
  return zmq::message_t(
      kept->data(), kept->size(), [](void*, void* hint) { delete static_cast<std::string*>(hint); },
      kept);
}

}  // namespace

struct ZmqBus::Impl {
  struct Remote {
    msg::Peer entry;
    PeerId id;
    zmq::socket_t dealer;  // Only if the peer has an endpoint and is not revoked.
    LinkId link = 0;       // Of its connection to our port, once it has dialled us.
    bool connected = false;
    Micros heard{0};
    Micros ping_at{0};
    Micros dial_at{0};
    int redial_ms = 0;
  };
  // A frame that came in over our port or one of our own connections.
  struct Arrived {
    std::string key;
    std::variant<Message, zmq::message_t> frame;
  };
  // What the listener's thread hands over.
  struct Inbox {
    std::mutex mutex;                                    // Guards the next two.
    std::map<std::string, std::deque<Message>> waiting;  // By key.
    std::set<std::string> admitted;                      // Keys.
  };
  enum class Sent { kYes, kFull, kAway };

  Impl(ZmqBusOptions options_in, const Clock& clock_in)
      : options(std::move(options_in)),
        clock(clock_in),
        wake_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    FARSIDE_ASSERT(wake_fd >= 0);
  }
  ~Impl() {
    listener.reset();  // Its thread wakes us.
    ::close(wake_fd);
  }

  void set_common(zmq::socket_t& socket) const;
  Status listen();
  Status dial(Remote& remote);
  void drop_connections(Remote& remote);
  void forget(Remote& remote);
  Sent push(Remote& remote, std::string frame);
  void ping(Remote& remote, Micros now);
  void tend(Micros now);
  Micros next_due() const;
  Status wait(int timeout_ms);
  bool receive(int frames_max, std::vector<Arrived>& arrived);
  bool take_routed(std::vector<Arrived>& arrived, std::size_t frames_max);
  void take_one(Message message, std::vector<Arrived>& arrived);
  bool take_dialled(Remote& remote, std::vector<Arrived>& arrived);
  void hear(Remote& remote);
  void wake() const;
  void judge_silence(bool drained);
  Remote* remote_of_key(const std::string& key);

  const ZmqBusOptions options;
  const Clock& clock;
  const int wake_fd;
  zmq::context_t context{1};
  std::map<std::string, Remote> remotes;          // By principal.
  std::map<std::string, std::string> principals;  // By public key.
  std::vector<PeerChange> changes;                // To be delivered by the next poll.
  Micros judged{0};                               // When silence was last judged; 0 = never.
  ZmqBusStats stats;
  Inbox inbox;
  CurveServerOptions curve;
  std::unique_ptr<Listener> listener;  // Last: its thread uses what is above.
};

void ZmqBus::Impl::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd, &one, sizeof one);
}

void ZmqBus::Impl::set_common(zmq::socket_t& socket) const {
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::sndhwm, options.frames_queued_max);
  socket.set(zmq::sockopt::rcvhwm, options.frames_queued_max);
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(options.frame_bytes_max));
  socket.set(zmq::sockopt::handshake_ivl, 10'000);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  socket.set(zmq::sockopt::curve_publickey, options.keys.public_key);
  socket.set(zmq::sockopt::curve_secretkey, options.keys.secret_key);
}

Status ZmqBus::Impl::listen() {
  curve = {.public_key = key_bytes(options.keys.public_key).value(),
           .secret_key = key_bytes(options.keys.secret_key).value(),
           .part_bytes_max = options.frame_bytes_max,
           .parts_max = 1,
           .admits = [this](const std::string& key) {
             const std::lock_guard lock(inbox.mutex);
             return inbox.admitted.contains(key);
           }};
  FARSIDE_ASSIGN(listener,
                 Listener::start({.what = "the control port",
                                  .endpoint = options.listen,
                                  .limits = {},
                                  .budgets = std::make_shared<Budgets>(),
                                  .begin = [this] { return std::make_unique<CurveServer>(curve); },
                                  .on_message =
                                      [this](Message message) {
                                        {
                                          const std::lock_guard lock(inbox.mutex);
                                          inbox.waiting[message.key].push_back(std::move(message));
                                        }
                                        wake();
                                      },
                                  .on_closed = {}}));
  return {};
}

// Peers name where they are dialled.  Errors: kInvalidArgument (not such an endpoint).
Status ZmqBus::Impl::dial(Remote& remote) {
  if (const auto good = check_endpoint(remote.entry.endpoint); !good) {
    return fail(good.error().in("dial " + remote.id.principal));
  }
  try {
    zmq::socket_t dealer(context, zmq::socket_type::dealer);
    set_common(dealer);
    dealer.set(zmq::sockopt::curve_serverkey, remote.entry.public_key);
    // Frames queue only on a connection whose handshake is done: one for an absent peer must be
    // dropped, not delivered minutes later.
    dealer.set(zmq::sockopt::immediate, true);
    dealer.set(zmq::sockopt::reconnect_ivl, 100);
    dealer.set(zmq::sockopt::reconnect_ivl_max, 2'000);
    if (remote.entry.endpoint.contains('[')) dealer.set(zmq::sockopt::ipv6, true);
    dealer.connect(remote.entry.endpoint);
    remote.dealer = std::move(dealer);
  } catch (const zmq::error_t& error) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("dial {} at '{}': {}", remote.id.principal, remote.entry.endpoint,
                            error.what()),
                "write the endpoint as tcp://HOST:PORT");
  }
  const Micros now = clock.monotonic();
  remote.ping_at = now;
  remote.dial_at = now + std::chrono::milliseconds(remote.redial_ms);
  remote.redial_ms = std::min(remote.redial_ms * 2, options.redial_max_ms);
  return {};
}

void ZmqBus::Impl::drop_connections(Remote& remote) {
  remote.dealer.close();
  if (listener) listener->close_all_of(remote.entry.public_key);
  remote.link = 0;
  if (std::exchange(remote.connected, false)) {
    changes.push_back({.peer = remote.id, .connected = false});
  }
}

void ZmqBus::Impl::forget(Remote& remote) {
  {
    const std::lock_guard lock(inbox.mutex);
    inbox.admitted.erase(remote.entry.public_key);
  }
  principals.erase(remote.entry.public_key);
  drop_connections(remote);
}

ZmqBus::Impl::Remote* ZmqBus::Impl::remote_of_key(const std::string& key) {
  const auto principal = principals.find(key);
  if (principal == principals.end()) return nullptr;
  Remote& remote = remotes.at(principal->second);
  return remote.entry.revoked ? nullptr : &remote;
}

ZmqBus::Impl::Sent ZmqBus::Impl::push(Remote& remote, std::string frame) {
  if (remote.dealer) {
    zmq::message_t message = to_message(std::move(frame));
    try {
      if (remote.dealer.send(message, zmq::send_flags::dontwait)) return Sent::kYes;
    } catch (const zmq::error_t&) {
      return Sent::kAway;
    }
    frame = message.to_string();
  }
  if (remote.link == 0) return remote.dealer && remote.connected ? Sent::kFull : Sent::kAway;
  switch (listener->send(remote.link, {std::move(frame)})) {
    case Listener::Sent::kYes:
      return Sent::kYes;
    case Listener::Sent::kFull:
      return Sent::kFull;
    case Listener::Sent::kAway:
      break;
  }
  remote.link = 0;  // The peer makes itself known on its next connection.
  return Sent::kAway;
}

void ZmqBus::Impl::ping(Remote& remote, Micros now) {
  const bool sent = push(remote, {}) == Sent::kYes;
  const bool dialling = remote.dealer && !sent && !remote.connected;
  remote.ping_at =
      now + (dialling ? kConnectProbe : std::chrono::milliseconds(options.ping_every_ms));
}

void ZmqBus::Impl::tend(Micros now) {
  for (auto& [principal, remote] : remotes) {
    if (remote.entry.revoked) continue;
    if (!remote.entry.endpoint.empty() && !remote.connected && now >= remote.dial_at) {
      ++stats.redials;
      // The endpoint parsed before; whatever fails now is tried again with the next redial.
      if (const Status dialled = dial(remote); !dialled) {
        remote.dial_at = now + std::chrono::milliseconds(options.redial_max_ms);
      }
    }
    const bool reachable = remote.dealer || remote.link != 0;
    if (reachable && now >= remote.ping_at) ping(remote, now);
  }
}

// The earliest moment at which tend() or judge_silence() has something to do.
Micros ZmqBus::Impl::next_due() const {
  Micros due = Micros::max();
  for (const auto& [principal, remote] : remotes) {
    if (remote.entry.revoked) continue;
    if (remote.dealer || remote.link != 0) due = std::min(due, remote.ping_at);
    if (remote.connected) {
      due = std::min(due, remote.heard + std::chrono::milliseconds(options.silent_after_ms));
    } else if (!remote.entry.endpoint.empty()) {
      due = std::min(due, remote.dial_at);
    }
  }
  return due;
}

Status ZmqBus::Impl::wait(int timeout_ms) {
  std::vector<zmq::pollitem_t> items;
  items.push_back({.socket = nullptr, .fd = wake_fd, .events = ZMQ_POLLIN, .revents = 0});
  for (auto& [principal, remote] : remotes) {
    if (!remote.dealer) continue;
    items.push_back(
        {.socket = remote.dealer.handle(), .fd = 0, .events = ZMQ_POLLIN, .revents = 0});
  }
  Micros patience = std::chrono::milliseconds(timeout_ms);
  if (const Micros due = next_due(); due != Micros::max()) {
    patience = std::min(patience, std::max(Micros{0}, due - clock.monotonic()));
  }
  if (!changes.empty()) patience = Micros{0};
  {
    const std::lock_guard lock(inbox.mutex);
    if (!inbox.waiting.empty()) patience = Micros{0};
  }
  try {
    zmq::poll(items.data(), items.size(), std::chrono::ceil<std::chrono::milliseconds>(patience));
  } catch (const zmq::error_t& error) {
    if (error.num() != EINTR) {
      return fail(ErrorCode::kInternal, fmt::format("wait for frames: {}", error.what()));
    }
  }
  std::uint64_t wakes = 0;
  [[maybe_unused]] const auto taken = ::read(wake_fd, &wakes, sizeof wakes);
  return {};
}

void ZmqBus::Impl::hear(Remote& remote) {
  remote.heard = clock.monotonic();
  remote.redial_ms = options.redial_first_ms;
  if (!std::exchange(remote.connected, true)) {
    changes.push_back({.peer = remote.id, .connected = true});
  }
}

void ZmqBus::Impl::take_one(Message message, std::vector<Arrived>& arrived) {
  Remote* const remote = remote_of_key(message.key);
  if (remote == nullptr) {
    ++stats.refused_frames;
    log::debug("frame_refused",
               {{"key", message.key}, {"address", listener->address_of(message.link)}});
    listener->close(message.link);
    return;
  }
  const bool is_new = remote->link != message.link;
  remote->link = message.link;
  hear(*remote);
  if (is_new) ping(*remote, clock.monotonic());  // So that it knows at once that it is heard.
  if (message.parts[0].view().empty()) return;
  ++stats.frames_in;
  std::string key = message.key;
  arrived.push_back({.key = std::move(key), .frame = std::move(message)});
}

// One of each key.  True if there was something, even if only a ping or something refused.
bool ZmqBus::Impl::take_routed(std::vector<Arrived>& arrived, std::size_t frames_max) {
  std::vector<Message> batch;
  {
    const std::lock_guard lock(inbox.mutex);
    for (auto& [key, waiting] : inbox.waiting) {
      if (arrived.size() + batch.size() >= frames_max) break;
      batch.push_back(std::move(waiting.front()));
      waiting.pop_front();
    }
    std::erase_if(inbox.waiting, [](const auto& one) { return one.second.empty(); });
  }
  for (Message& message : batch) take_one(std::move(message), arrived);
  return !batch.empty();
}

bool ZmqBus::Impl::take_dialled(Remote& remote, std::vector<Arrived>& arrived) {
  zmq::message_t frame;
  if (!remote.dealer || !remote.dealer.recv(frame, zmq::recv_flags::dontwait)) return false;
  bool whole = true;
  for (zmq::message_t extra; frame.more() && (whole || extra.more()); whole = false) {
    [[maybe_unused]] const auto dropped = remote.dealer.recv(extra);
  }
  if (!whole) {
    ++stats.refused_frames;
    return true;
  }
  hear(remote);
  if (frame.size() == 0) return true;
  ++stats.frames_in;
  arrived.push_back({.key = remote.entry.public_key, .frame = std::move(frame)});
  return true;
}

// One frame of each source in turn, so that no peer keeps the others waiting.  True if everything
// there was has been taken.
bool ZmqBus::Impl::receive(int frames_max, std::vector<Arrived>& arrived) {
  const auto full = [&] { return arrived.size() >= static_cast<std::size_t>(frames_max); };
  // Pings carry nothing but cost time: a flood of them must not keep us here.
  for (int rounds = 2 * frames_max + 64; rounds > 0 && !full(); --rounds) {
    bool any = take_routed(arrived, static_cast<std::size_t>(frames_max));
    for (auto& [principal, remote] : remotes) {
      if (!full()) any = take_dialled(remote, arrived) || any;
    }
    if (!any) return true;
  }
  return false;
}

void ZmqBus::Impl::judge_silence(bool drained) {
  const Micros now = clock.monotonic();
  // While we ourselves stood still (a suspended host, a stopped process) nobody could be heard.
  const Micros stalled = now - judged - std::chrono::milliseconds(options.ping_every_ms);
  if (judged != Micros{0} && stalled > Micros{0}) {
    for (auto& [principal, remote] : remotes) {
      remote.heard = std::min(now, remote.heard + stalled);
    }
  }
  judged = now;
  // With frames still waiting, a live peer's may be among them.
  const auto patience = std::chrono::milliseconds(options.silent_after_ms) * (drained ? 1 : 2);
  for (auto& [principal, remote] : remotes) {
    if (!remote.connected || now - remote.heard < patience) continue;
    remote.connected = false;
    remote.dial_at = now;
    changes.push_back({.peer = remote.id, .connected = false});
  }
}

ZmqBus::ZmqBus(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqBus::~ZmqBus() = default;

Result<std::unique_ptr<ZmqBus>> ZmqBus::open(const ZmqBusOptions& options, const Clock& clock) {
  if (!is_key(options.keys.public_key) || !is_key(options.keys.secret_key)) {
    return fail(ErrorCode::kInvalidArgument, "open the bus: not a CURVE key pair");
  }
  auto impl = std::make_unique<Impl>(options, clock);
  if (!options.listen.empty()) FARSIDE_TRY(impl->listen());
  return std::unique_ptr<ZmqBus>(new ZmqBus(std::move(impl)));
}

Status ZmqBus::set_peer(const msg::Peer& peer) {
  if (!is_key(peer.public_key)) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("'{}' is not the public key of {}", peer.public_key, peer.principal),
                "a public key is 40 characters of Z85; copy it whole");
  }
  const auto owner = impl_->principals.find(peer.public_key);
  if (owner != impl_->principals.end() && owner->second != peer.principal) {
    return fail(ErrorCode::kConflict,
                fmt::format("the key of {} belongs to {} already", peer.principal, owner->second),
                "delete the copied identity file on one of them and register it anew");
  }
  auto found = impl_->remotes.find(peer.principal);
  if (found != impl_->remotes.end()) {
    Impl::Remote& known = found->second;
    const bool same_link = known.entry.public_key == peer.public_key &&
                           known.entry.endpoint == peer.endpoint && known.entry.role == peer.role &&
                           known.entry.revoked == peer.revoked;
    known.entry.site = peer.site;
    if (same_link) return {};
    impl_->forget(known);
    impl_->remotes.erase(found);
  }
  Impl::Remote remote;
  remote.entry = peer;
  remote.id = {.principal = peer.principal, .role = peer.role};
  remote.redial_ms = impl_->options.redial_first_ms;
  if (!peer.revoked) {
    if (!peer.endpoint.empty()) FARSIDE_TRY(impl_->dial(remote));
    const std::lock_guard lock(impl_->inbox.mutex);
    impl_->inbox.admitted.insert(peer.public_key);
  }
  impl_->principals[peer.public_key] = peer.principal;
  impl_->remotes[peer.principal] = std::move(remote);
  return {};
}

void ZmqBus::remove_peer(const std::string& principal) {
  const auto found = impl_->remotes.find(principal);
  if (found == impl_->remotes.end()) return;
  impl_->forget(found->second);
  impl_->remotes.erase(found);
}

void ZmqBus::send(const std::string& principal, std::string frame) {
  FARSIDE_ASSERT(!frame.empty());  // That would be a ping.
  const auto found = impl_->remotes.find(principal);
  if (found == impl_->remotes.end() || !found->second.connected) {
    ++impl_->stats.dropped;
    return;
  }
  if (frame.size() > impl_->options.frame_bytes_max) {
    ++impl_->stats.dropped;
    log::error("frame_too_large", {{"peer", principal}, {"bytes", frame.size()}});
    return;
  }
  if (impl_->push(found->second, std::move(frame)) == Impl::Sent::kYes) {
    ++impl_->stats.frames_out;
  } else {
    ++impl_->stats.dropped;
  }
}

Status ZmqBus::poll(int timeout_ms, int frames_max, const Handlers& handlers) {
  if (impl_->listener) {
    if (std::string problem = impl_->listener->problem(); !problem.empty()) {
      return fail(ErrorCode::kInternal, std::move(problem));
    }
  }
  impl_->tend(impl_->clock.monotonic());
  FARSIDE_TRY(impl_->wait(timeout_ms));
  std::vector<Impl::Arrived> arrived;
  try {
    const bool drained = impl_->receive(frames_max, arrived);
    impl_->judge_silence(drained);
  } catch (const zmq::error_t& error) {
    return fail(ErrorCode::kInternal, fmt::format("receive frames: {}", error.what()));
  }
  // Handlers may call us: what they change takes effect for the frames that follow.
  for (const PeerChange& change : std::exchange(impl_->changes, {})) {
    if (handlers.on_peer) handlers.on_peer(change);
  }
  for (const Impl::Arrived& one : arrived) {
    const Impl::Remote* remote = impl_->remote_of_key(one.key);
    if (remote == nullptr) {
      ++impl_->stats.refused_frames;
      continue;
    }
    const PeerId from = remote->id;
    if (!handlers.on_frame) continue;
    const auto* const message = std::get_if<Message>(&one.frame);
    handlers.on_frame(from, message != nullptr
                                ? message->parts[0].view()
                                : std::get<zmq::message_t>(one.frame).to_string_view());
  }
  return {};
}

void ZmqBus::wake() {
  impl_->wake();
}

std::string ZmqBus::endpoint() const {
  return impl_->listener ? impl_->listener->endpoint() : std::string();
}

ZmqBusStats ZmqBus::stats() const {
  ZmqBusStats stats = impl_->stats;
  if (!impl_->listener) return stats;
  const ListenerStats port = impl_->listener->stats();
  stats.refused_keys = port.refused_keys;
  stats.turned_away = port.turned_away;
  stats.broken = port.broken;
  return stats;
}

}  // namespace farside::bus
