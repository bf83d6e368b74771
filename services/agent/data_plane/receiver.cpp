#include "services/agent/data_plane/receiver.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <zmq.hpp>

#include "common/base/log.h"
#include "common/bus/zap_gate.h"
#include "common/reactor/watchdog.h"
#include "services/agent/data_plane/frames.h"
#include "services/agent/data_plane/seal.h"
#include "services/agent/data_plane/session.h"
#include "services/agent/replica_store/layout.h"

namespace farside::data {
namespace {

struct Outgoing {
  std::string route;
  std::string head;
  std::string payload;
};

struct Incoming {
  msg::DataFrame frame;
  zmq::message_t payload;
  zmq::message_t sealed;  // Not empty: part 1 of a sealed frame, instead of `frame`.
  std::uint64_t cost = 1024;
};

// The next port of the same address; any free one if that one is any free one.
std::string sealed_endpoint_of(const std::string& endpoint) {
  const std::size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos) return {};
  const std::string port = endpoint.substr(colon + 1);
  if (port == "*" || port == "0") return endpoint;
  const auto number = std::strtoul(port.c_str(), nullptr, 10);
  if (number == 0 || number >= 65'535) return {};
  return endpoint.substr(0, colon + 1) + std::to_string(number + 1);
}

std::uint16_t port_of(const std::string& endpoint) {
  const std::size_t colon = endpoint.rfind(':');
  return colon == std::string::npos
             ? std::uint16_t{0}
             : static_cast<std::uint16_t>(std::strtoul(endpoint.c_str() + colon + 1, nullptr, 10));
}

// The queue and the thread of one session.
struct Worker {
  std::string route;
  std::string source_key;
  std::uint64_t sealed_session = 0;
  std::mutex mutex;  // Guards the next five.
  std::condition_variable wake;
  std::deque<Incoming> queue;
  std::uint64_t queued_bytes = 0;
  std::chrono::steady_clock::time_point heard{};  // Pings count: a source may read for minutes.
  bool stop = false;
  std::atomic<bool> ended = false;
  std::thread thread;
};

}  // namespace

struct Receiver::Impl {
  ReceiverOptions options;
  std::string endpoint;
  std::string sealed_endpoint;
  zmq::context_t context{1};
  std::unique_ptr<bus::ZapGate> gate;
  zmq::socket_t router;
  zmq::socket_t sealed;  // Without CURVE: frames are sealed one by one.  Closed if it has no port.
  int wake_fd = -1;
  std::atomic<bool> stopping = false;
  std::thread thread;
  std::unique_ptr<ArrivalClock> arrivals;
  Session::World world;

  mutable std::mutex mutex;  // Guards the next three.
  std::map<std::string, std::unique_ptr<Introduction>> introductions;
  std::deque<Outgoing> outgoing;
  std::string problem;

  std::map<std::string, std::unique_ptr<Worker>> workers;  // By route; the socket's thread only.
  std::map<std::uint64_t, Worker*> sealed_workers;         // By sealed session; as above.
  std::uint64_t next_session = 1;
  std::atomic<std::uint64_t> sessions = 0;
  std::atomic<std::uint64_t> batches = 0;
  std::atomic<std::uint64_t> sealed_batches = 0;
  std::atomic<std::uint64_t> payload_bytes = 0;
  std::atomic<std::uint64_t> refused = 0;

  ~Impl() {
    if (wake_fd >= 0) ::close(wake_fd);
  }
  void wake() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_fd, &one, sizeof one);
  }
  void post(const std::string& route, const msg::DataFrame& frame, std::string payload) {
    {
      const std::lock_guard lock(mutex);
      outgoing.push_back({.route = route, .head = encode(frame), .payload = std::move(payload)});
    }
    wake();
  }
  void open_sealed();
  std::uint64_t next_sealed_session() const;
  void run();
  void receive();
  void receive_sealed();
  void enqueue(Worker& worker, Incoming incoming);
  void dispatch(const std::string& route, const std::string& key, msg::DataFrame frame,
                zmq::message_t payload);
  void work(Worker& worker, std::uint64_t number);
  void send_all();
  void end(Worker& worker);
  void reap(bool all);
};

// Sources can do without: then everything goes inside CURVE.
void Receiver::Impl::open_sealed() {
  try {
    zmq::socket_t socket(context, zmq::socket_type::router);
    socket.set(zmq::sockopt::maxmsgsize, kFrameBytesMax);
    socket.set(zmq::sockopt::rcvhwm, 64);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::ipv6, true);
    socket.set(zmq::sockopt::tcp_keepalive, 1);
    socket.bind(sealed_endpoint_of(options.endpoint));
    sealed_endpoint = socket.get(zmq::sockopt::last_endpoint);
    sealed = std::move(socket);
  } catch (const zmq::error_t& error) {
    log::warn("no_port_for_bulk", {{"endpoint", endpoint}, {"error", error.what()}});
  }
}

// Not to be guessed, so that only who sees the wire can disturb a session.
std::uint64_t Receiver::Impl::next_sealed_session() const {
  std::uint64_t session = 0;
  const auto key = Seal::make_key();
  if (key) std::memcpy(&session, key->data(), sizeof session);
  return session;
}

// ---- the socket's thread

void Receiver::Impl::run() {
  reactor::Beat beat("the data port");
  while (!stopping) {
    beat.beat();
    std::array<zmq::pollitem_t, 3> items{
        zmq::pollitem_t{.socket = router.handle(), .fd = 0, .events = ZMQ_POLLIN, .revents = 0},
        zmq::pollitem_t{.socket = nullptr, .fd = wake_fd, .events = ZMQ_POLLIN, .revents = 0},
        zmq::pollitem_t{.socket = sealed.handle(), .fd = 0, .events = ZMQ_POLLIN, .revents = 0}};
    try {
      zmq::poll(items.data(), sealed ? 3 : 2, std::chrono::milliseconds(1000));
      if ((items[1].revents & ZMQ_POLLIN) != 0) {
        std::uint64_t count = 0;
        [[maybe_unused]] const ssize_t n = ::read(wake_fd, &count, sizeof count);
      }
      receive();
      if (sealed) receive_sealed();
      send_all();
    } catch (const zmq::error_t& error) {
      if (error.num() == EINTR) continue;
      log::error("data_port_stopped", {{"endpoint", endpoint}, {"error", error.what()}});
      const std::lock_guard lock(mutex);
      problem = "the data port " + endpoint + " stopped: " + error.what();
      break;
    }
    reap(false);
  }
  reap(true);
}

void Receiver::Impl::receive() {
  // Bounded, so that answers leave in between.
  for (int n = 0; n < 64; ++n) {
    zmq::message_t route;
    if (!router.recv(route, zmq::recv_flags::dontwait)) return;
    zmq::message_t head;
    zmq::message_t payload;
    bool too_long = false;
    if (route.more()) [[maybe_unused]]
      const auto got = router.recv(head);
    if (head.more()) [[maybe_unused]]
      const auto got = router.recv(payload);
    for (bool more = payload.more(); more;) {
      zmq::message_t rest;
      [[maybe_unused]] const auto got = router.recv(rest);
      more = rest.more();
      too_long = true;
    }
    const char* key = zmq_msg_gets(head.handle(), "User-Id");
    if (key == nullptr || too_long) {
      ++refused;
      continue;
    }
    auto frame = msg::decode<msg::DataFrame>({static_cast<const char*>(head.data()), head.size()});
    if (!frame) {
      ++refused;
      log::warn("data_frame_refused", {{"source", key}, {"error", frame.error()}});
      continue;
    }
    dispatch(route.to_string(), key, std::move(*frame), std::move(payload));
  }
}

// Whoever sends here may be anybody: what names no session is dropped, what does not open ends the
// session that it names.
void Receiver::Impl::receive_sealed() {
  for (int n = 0; n < 64; ++n) {
    zmq::message_t route;
    if (!sealed.recv(route, zmq::recv_flags::dontwait)) return;
    zmq::message_t part1;
    zmq::message_t payload;
    if (route.more()) [[maybe_unused]]
      const auto got = sealed.recv(part1);
    if (part1.more()) [[maybe_unused]]
      const auto got = sealed.recv(payload);
    bool too_long = false;
    for (bool more = payload.more(); more; too_long = true) {
      zmq::message_t rest;
      [[maybe_unused]] const auto got = sealed.recv(rest);
      more = rest.more();
    }
    std::uint64_t session = 0;
    if (part1.size() > kSealedPrefix) {
      session = replica::number_at(part1.to_string_view(), 0, kSealedPrefix);
    }
    const auto found = sealed_workers.find(session);
    if (too_long || session == 0 || found == sealed_workers.end()) {
      ++refused;
      continue;
    }
    ++batches;
    ++sealed_batches;
    payload_bytes += payload.size();
    const std::uint64_t cost = part1.size() + payload.size();
    enqueue(*found->second,
            {.frame = {}, .payload = std::move(payload), .sealed = std::move(part1), .cost = cost});
  }
}

void Receiver::Impl::dispatch(const std::string& route, const std::string& key,
                              msg::DataFrame frame, zmq::message_t payload) {
  auto found = workers.find(route);
  // One that pings without a session waits for an answer that will not come: it is told so below.
  if (std::holds_alternative<msg::DataPing>(frame.value) && found != workers.end()) {
    {
      const std::lock_guard lock(found->second->mutex);
      found->second->heard = std::chrono::steady_clock::now();
    }
    post(route, data::frame(msg::DataPong{}), {});
    return;
  }
  if (found != workers.end() && found->second->ended) {
    found->second->thread.join();
    sealed_workers.erase(found->second->sealed_session);
    workers.erase(found);
    found = workers.end();
  }
  const auto refuse = [&](ErrorCode code, const std::string& what) {
    ++refused;
    post(route,
         data::frame(
             msg::DeltaRefused{.fault = to_fault({.code = code, .what = what, .advice = {}})}),
         {});
  };
  if (found == workers.end()) {
    if (!std::holds_alternative<msg::OpenDelta>(frame.value)) {
      refuse(ErrorCode::kUnavailable, "the session is not open here");
      return;
    }
    if (workers.size() >= kSessionsMax) {
      refuse(ErrorCode::kUnavailable, "this host receives from too many sources at once");
      return;
    }
    auto worker = std::make_unique<Worker>();
    worker->route = route;
    worker->source_key = key;
    worker->heard = std::chrono::steady_clock::now();
    if (sealed) worker->sealed_session = next_sealed_session();
    Worker& reference = *worker;
    if (worker->sealed_session != 0) sealed_workers[worker->sealed_session] = worker.get();
    found = workers.emplace(route, std::move(worker)).first;
    ++sessions;
    reference.thread =
        std::thread([this, &reference, number = next_session++] { work(reference, number); });
  }

  Worker& worker = *found->second;
  if (worker.source_key != key) {
    refuse(ErrorCode::kForbidden, "the session belongs to another key");
    return;
  }
  std::uint64_t cost = 1024;
  if (const auto* batch = std::get_if<msg::BlockBatch>(&frame.value)) {
    cost = cost_of(*batch, payload.size());
    ++batches;
    payload_bytes += payload.size();
  }
  enqueue(worker,
          {.frame = std::move(frame), .payload = std::move(payload), .sealed = {}, .cost = cost});
}

void Receiver::Impl::enqueue(Worker& worker, Incoming incoming) {
  bool over = false;
  {
    const std::lock_guard lock(worker.mutex);
    // Requests are small and few; the margin is for them.
    over = worker.queued_bytes + incoming.cost > options.window_bytes + (1U << 20U);
    if (over) {
      worker.stop = true;
      worker.queue.clear();
    } else {
      worker.queued_bytes += incoming.cost;
      worker.heard = std::chrono::steady_clock::now();
      worker.queue.push_back(std::move(incoming));
    }
  }
  worker.wake.notify_one();
  if (!over) return;
  ++refused;
  post(worker.route,
       data::frame(msg::DeltaRefused{
           .fault = to_fault({.code = ErrorCode::kForbidden,
                              .what = "the source sent more than it had credit for",
                              .advice = {}})}),
       {});
}

void Receiver::Impl::send_all() {
  std::deque<Outgoing> batch;
  {
    const std::lock_guard lock(mutex);
    batch.swap(outgoing);
  }
  for (Outgoing& out : batch) {
    try {
      // A route that is gone raises EHOSTUNREACH: its source opens a new session.
      const bool with_payload = !out.payload.empty();
      router.send(zmq::message_t(out.route.data(), out.route.size()), zmq::send_flags::sndmore);
      router.send(to_message(std::move(out.head)),
                  with_payload ? zmq::send_flags::sndmore : zmq::send_flags::none);
      if (with_payload) router.send(to_message(std::move(out.payload)), zmq::send_flags::none);
    } catch (const zmq::error_t& error) {
      if (error.num() != EHOSTUNREACH && error.num() != EAGAIN) throw;
    }
  }
}

void Receiver::Impl::end(Worker& worker) {
  {
    const std::lock_guard lock(worker.mutex);
    worker.stop = true;
    worker.queue.clear();
  }
  worker.wake.notify_one();
}

void Receiver::Impl::reap(bool all) {
  for (auto it = workers.begin(); it != workers.end();) {
    if (all) end(*it->second);
    if (all || it->second->ended) {
      it->second->thread.join();
      sealed_workers.erase(it->second->sealed_session);
      it = workers.erase(it);
    } else {
      ++it;
    }
  }
}

// ---- a session's thread

void Receiver::Impl::work(Worker& worker, std::uint64_t number) {
  Session::World here = world;
  here.send = [&](const msg::DataFrame& frame, std::string payload) {
    post(worker.route, frame, std::move(payload));
  };
  here.sealed_session = worker.sealed_session;
  std::optional<Session> session(std::in_place, number, worker.source_key, here);
  for (;;) {
    Incoming incoming;
    {
      std::unique_lock lock(worker.mutex);
      const auto idle = std::chrono::seconds(options.idle_s);
      while (!worker.stop && worker.queue.empty() &&
             std::chrono::steady_clock::now() < worker.heard + idle) {
        worker.wake.wait_until(lock, worker.heard + idle);
      }
      if (worker.stop || worker.queue.empty()) break;
      incoming = std::move(worker.queue.front());
      worker.queue.pop_front();
    }
    const std::span<char> payload(static_cast<char*>(incoming.payload.data()),
                                  incoming.payload.size());
    {
      // Given back before the answer leaves: the source may use the credit at once.
      const std::lock_guard lock(worker.mutex);
      worker.queued_bytes -= incoming.cost;
    }
    const Status handled =
        incoming.sealed.empty()
            ? session->handle(incoming.frame, {payload.data(), payload.size()})
            : session->handle_sealed(incoming.sealed.to_string_view().substr(kSealedPrefix),
                                     payload);
    if (!handled) {
      ++refused;
      log::warn("session_refused", {{"source", worker.source_key}, {"error", handled.error()}});
      post(worker.route, data::frame(msg::DeltaRefused{.fault = to_fault(handled.error())}), {});
      break;
    }
    // One session, one delta: kept until it idles out it would take the place of others.
    const bool is_last = std::holds_alternative<msg::FinishDelta>(incoming.frame.value);
    if (incoming.sealed.empty() && is_last) break;
  }
  // It syncs what was staged, which a sick volume may take any time for: only then may the thread
  // of the sockets, on which all items depend, join this one.
  session.reset();
  --sessions;
  worker.ended = true;
  wake();
}

// ---- the owner's side

Receiver::Receiver(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Receiver::~Receiver() {
  impl_->stopping = true;
  impl_->wake();
  if (impl_->thread.joinable()) impl_->thread.join();
  impl_->router.close();
  impl_->sealed.close();
  impl_->gate.reset();
}

Result<std::unique_ptr<Receiver>> Receiver::start(ReceiverOptions options, const Clock& clock) {
  auto impl = std::make_unique<Impl>();
  impl->arrivals = std::make_unique<ArrivalClock>(clock);
  impl->options = std::move(options);
  if (!bus::is_key(impl->options.keys.public_key) || !bus::is_key(impl->options.keys.secret_key)) {
    return fail(ErrorCode::kInvalidArgument, "the data port needs a CURVE key pair");
  }
  impl->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (impl->wake_fd < 0) return fail(ErrorCode::kInternal, "cannot create an event");
  FARSIDE_ASSIGN(impl->gate, bus::ZapGate::start(impl->context, clock));
  try {
    impl->router = zmq::socket_t(impl->context, zmq::socket_type::router);
    zmq::socket_t& router = impl->router;
    router.set(zmq::sockopt::curve_server, true);
    router.set(zmq::sockopt::curve_secretkey, impl->options.keys.secret_key);
    router.set(zmq::sockopt::curve_publickey, impl->options.keys.public_key);
    router.set(zmq::sockopt::zap_domain, bus::kZapDomain);
    router.set(zmq::sockopt::router_mandatory, true);
    router.set(zmq::sockopt::maxmsgsize, kFrameBytesMax);
    router.set(zmq::sockopt::sndhwm, 4096);
    router.set(zmq::sockopt::rcvhwm, 4096);
    router.set(zmq::sockopt::sndtimeo, 0);
    router.set(zmq::sockopt::linger, 0);
    router.set(zmq::sockopt::ipv6, true);
    router.set(zmq::sockopt::tcp_keepalive, 1);
    router.bind(impl->options.endpoint);
    impl->endpoint = router.get(zmq::sockopt::last_endpoint);
  } catch (const zmq::error_t& error) {
    const std::string what =
        "listen for data on " + impl->options.endpoint + ": " + std::string(error.what());
    if (error.num() == EADDRINUSE) {
      return fail(ErrorCode::kConflict, what,
                  "see who has the port with `ss -ltnp`, stop that or set another data.listen");
    }
    return fail(ErrorCode::kInvalidArgument, what,
                "write data.listen as tcp://ADDRESS:PORT with an address of this host");
  }
  impl->open_sealed();
  Impl* const raw = impl.get();
  impl->world = {.open_item = impl->options.open_item,
                 .introduction = [raw](const std::string& item) -> Introduction* {
                   const std::lock_guard lock(raw->mutex);
                   const auto found = raw->introductions.find(item);
                   return found == raw->introductions.end() ? nullptr : found->second.get();
                 },
                 .on_durable = impl->options.on_durable,
                 .send = {},
                 .arrivals = impl->arrivals.get(),
                 .window_bytes = impl->options.window_bytes,
                 .sealed_port = impl->sealed ? port_of(impl->sealed_endpoint) : std::uint16_t{0},
                 .sealed_session = 0};
  impl->thread = std::thread([raw] { raw->run(); });
  return std::unique_ptr<Receiver>(new Receiver(std::move(impl)));
}

const std::string& Receiver::endpoint() const {
  return impl_->endpoint;
}

Status Receiver::allow(const std::string& item, const std::string& source_key,
                       std::uint64_t epoch) {
  if (!bus::is_key(source_key)) {
    return fail(ErrorCode::kInvalidArgument, "the source of " + item + " has no valid key");
  }
  Introduction* introduction = nullptr;
  {
    const std::lock_guard lock(impl_->mutex);
    auto& slot = impl_->introductions[item];
    if (slot == nullptr) slot = std::make_unique<Introduction>();
    introduction = slot.get();
  }
  std::string old_key;
  {
    const std::lock_guard lock(introduction->mutex);
    if (epoch < introduction->epoch) {
      return fail(ErrorCode::kStaleEpoch, "item " + item + " was introduced for epoch " +
                                              std::to_string(introduction->epoch) + " already");
    }
    const bool same = introduction->allowed && introduction->source_key == source_key &&
                      introduction->epoch == epoch;
    if (same) return {};
    if (introduction->allowed) old_key = introduction->source_key;
    introduction->allowed = true;
    introduction->source_key = source_key;
    introduction->epoch = epoch;
    introduction->owner = 0;
  }
  FARSIDE_TRY(impl_->gate->allow(source_key, source_key));
  if (!old_key.empty() && old_key != source_key) forget_key(old_key);
  return {};
}

void Receiver::forbid(const std::string& item) {
  Introduction* introduction = nullptr;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->introductions.find(item);
    if (found == impl_->introductions.end()) return;
    introduction = found->second.get();
  }
  std::string key;
  {
    const std::lock_guard lock(introduction->mutex);
    introduction->allowed = false;
    introduction->owner = 0;
    key = introduction->source_key;
  }
  forget_key(key);
}

// A key that is introduced for no item any more is not even let in.
void Receiver::forget_key(const std::string& key) {
  std::vector<Introduction*> all;
  {
    const std::lock_guard lock(impl_->mutex);
    for (const auto& [item, introduction] : impl_->introductions) all.push_back(introduction.get());
  }
  for (Introduction* const introduction : all) {
    const std::lock_guard lock(introduction->mutex);
    if (introduction->allowed && introduction->source_key == key) return;
  }
  impl_->gate->forbid(key);
}

ReceiverFigures Receiver::figures() const {
  return {.sessions = impl_->sessions,
          .batches = impl_->batches,
          .sealed_batches = impl_->sealed_batches,
          .payload_bytes = impl_->payload_bytes,
          .refused = impl_->refused,
          .strangers = impl_->gate->refused()};
}

std::string Receiver::problem() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->problem;
}

}  // namespace farside::data
