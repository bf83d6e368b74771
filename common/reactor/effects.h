// What a core decides during one turn, and all it may know of the world while it decides.
//
// A core never touches a socket, clock, disk, thread or random source: it reads `store()`, the
// times and fresh ids given here, and writes its decision back.  The reactor commits `writes`
// first and only then carries out the rest, in order.  Thread: the reactor's.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/reactor/bus.h"
#include "common/schema/envelope.plain.h"
#include "common/store/store.h"

namespace farside::reactor {

// A message body, by any of its arms: Message{HostReport{...}} needs no naming of the union.
template <class Body>
msg::Message message(Body body) {
  return msg::Message(std::move(body));
}

struct SendMessage {
  std::string peer;  // The neighbour it is handed to; `envelope.to` may lie behind it.
  msg::Envelope envelope;
};
struct StartJob {
  std::string id;  // Comes back with the result; a job with the id of a running one is dropped.
  msg::Message request;
};
struct Answer {
  std::string id;  // Of a local request (HTTP) that reached the core through on_job().
  msg::Message body;
};
struct SetTimer {
  std::string name;  // Replaces an earlier timer of this name.
  Micros delay{};
};
struct CancelTimer {
  std::string name;
};
struct SetPeer {
  msg::Peer peer;
};
struct RemovePeer {
  std::string principal;
};

using Effect =
    std::variant<SendMessage, StartJob, Answer, SetTimer, CancelTimer, SetPeer, RemovePeer>;

class Effects final {
 public:
  Effects(std::string self, const store::Reader& store, Time now, Micros monotonic, Random& random)
      : self_(std::move(self)),
        overlay_(store, writes),
        now_(now),
        monotonic_(monotonic),
        random_(random) {}
  Effects(const Effects&) = delete;
  Effects& operator=(const Effects&) = delete;

  // What is stored, this turn's own writes included.
  const store::Reader& store() const { return overlay_; }
  Time now() const { return now_; }
  Micros monotonic() const { return monotonic_; }
  std::string fresh_id() { return random_.uuid(); }
  std::string fresh_secret() { return random_.hex(32); }
  const std::string& self() const { return self_; }

  // Requests carry an id and are answered under it; reports carry none.
  template <class Body>
  void request(const std::string& peer, const std::string& to, const std::string& id, Body body) {
    send(peer, msg::Envelope{.id = id, .from = self_, .to = to, .body = message(std::move(body))});
  }
  template <class Body>
  void report(const std::string& peer, Body body) {
    send(peer, msg::Envelope{.from = self_, .to = peer, .body = message(std::move(body))});
  }
  void reply(const std::string& peer, const msg::Envelope& request, msg::Message body) {
    send(peer, msg::Envelope{.id = request.id,
                             .from = self_,
                             .to = request.from,
                             .reply = true,
                             .body = std::move(body)});
  }
  void send(const std::string& peer, msg::Envelope envelope) {
    effects.emplace_back(SendMessage{.peer = peer, .envelope = std::move(envelope)});
  }
  void start(std::string id, msg::Message request) {
    effects.emplace_back(StartJob{.id = std::move(id), .request = std::move(request)});
  }
  void answer(std::string id, msg::Message body) {
    effects.emplace_back(Answer{.id = std::move(id), .body = std::move(body)});
  }
  void set_timer(std::string name, Micros delay) {
    effects.emplace_back(SetTimer{.name = std::move(name), .delay = delay});
  }
  void cancel_timer(std::string name) {
    effects.emplace_back(CancelTimer{.name = std::move(name)});
  }
  void set_peer(msg::Peer peer) { effects.emplace_back(SetPeer{.peer = std::move(peer)}); }
  void remove_peer(std::string principal) {
    effects.emplace_back(RemovePeer{.principal = std::move(principal)});
  }

  store::Batch writes;
  std::vector<Effect> effects;

 private:
  std::string self_;
  store::Overlay overlay_;
  Time now_;
  Micros monotonic_;
  Random& random_;
};

// One service.  Handlers are plain synchronous code and run on the reactor's thread; memory they
// keep beside the store must be something that start() can rebuild after a crash.
class Core {
 public:
  virtual ~Core() = default;

  // Runs once, before anything else: re-arm timers, peers and jobs from what is stored.
  virtual void start(Effects& effects) = 0;
  virtual void on_message(const PeerId& peer, const msg::Envelope& envelope, Effects& effects) = 0;
  virtual void on_job(const std::string& id, const Result<msg::Message>& result,
                      Effects& effects) = 0;
  virtual void on_timer(const std::string& name, Effects& effects) = 0;
  virtual void on_peer(const PeerChange& change, Effects& effects) = 0;
};

}  // namespace farside::reactor
