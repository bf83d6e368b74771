#include "services/agent/data_plane/receiver.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "common/base/log.h"
#include "common/bus/curve_server.h"
#include "common/bus/listener.h"
#include "services/agent/data_plane/bulk_dialogue.h"
#include "services/agent/data_plane/frames.h"
#include "services/agent/data_plane/seal.h"
#include "services/agent/data_plane/session.h"
#include "services/agent/data_plane/session_worker.h"
#include "services/agent/replica_store/layout.h"

namespace farside::data {
namespace {

// Answers are small and asked for one by one: a source that leaves more unread reads nothing.
constexpr std::size_t kDisksMax = 256;
constexpr std::uint64_t kUnreadAnswersMax = std::uint64_t{8} << 20U;

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

// Not to be guessed, so that only who sees the wire can disturb a session.
std::uint64_t random_session() {
  std::uint64_t session = 0;
  const auto key = Seal::make_key();
  if (key) std::memcpy(&session, key->data(), sizeof session);
  return session;
}

}  // namespace

struct Receiver::Impl {
  ReceiverOptions options;
  std::unique_ptr<ArrivalClock> arrivals;
  Session::World world;
  const std::shared_ptr<bus::Budgets> budgets = std::make_shared<bus::Budgets>();

  mutable std::mutex mutex;  // Guards the next two.
  std::map<std::string, std::unique_ptr<Introduction>> introductions;
  std::set<std::string> admitted;  // Keys.

  std::mutex workers_mutex;  // Guards the next six.
  std::map<bus::LinkId, std::unique_ptr<SessionWorker>> workers;
  std::map<std::uint64_t, SessionWorker*> sealed_workers;  // By sealed session.
  std::set<std::uint64_t> claimed;                         // Sealed sessions with a connection.
  std::map<std::string, std::uint64_t> writers;            // Of each item: its newest session.
  std::uint64_t next_number = 1;
  bool is_closing = false;

  std::atomic<std::uint64_t> sessions = 0;
  std::atomic<std::uint64_t> batches = 0;
  std::atomic<std::uint64_t> sealed_batches = 0;
  std::atomic<std::uint64_t> payload_bytes = 0;
  std::atomic<std::uint64_t> refused = 0;

  bus::CurveServerOptions curve;
  BulkDialogue::Claim claim;
  std::unique_ptr<bus::Listener> port;
  std::unique_ptr<bus::Listener> sealed;  // Frames are sealed one by one; may be none.

  ~Impl();
  Status open_ports();
  void post(bus::LinkId link, const msg::DataFrame& frame, std::string payload);
  void refuse(bus::LinkId link, const Error& error);
  void receive(bus::Message message);
  void receive_sealed(bus::Message message);
  void dispatch(bus::LinkId link, const std::string& key, SessionWorker::Incoming incoming);
  Result<SessionWorker*> open_session(bus::LinkId link, const std::string& key);
  std::uint64_t window_for(const std::string& key) const;
  void put(SessionWorker& worker, SessionWorker::Incoming incoming);
  void forget_ended();
  void end_older(const std::string& item, std::uint64_t number);
  void end_of(bus::LinkId link);
};

// The sessions first, which answer over the ports; none begins meanwhile.
Receiver::Impl::~Impl() {
  std::map<bus::LinkId, std::unique_ptr<SessionWorker>> last;
  {
    const std::lock_guard lock(workers_mutex);
    is_closing = true;
    for (const auto& [link, worker] : workers) worker->stop();
    last.swap(workers);
    sealed_workers.clear();
  }
  last.clear();
  sealed.reset();
  port.reset();
}

Status Receiver::Impl::open_ports() {
  curve = {.public_key = bus::key_bytes(options.keys.public_key).value(),
           .secret_key = bus::key_bytes(options.keys.secret_key).value(),
           .part_bytes_max = kFrameBytesMax,
           .parts_max = 2,
           .admits = [this](const std::string& key) {
             const std::lock_guard lock(mutex);
             return admitted.contains(key);
           }};
  const bus::ListenerLimits limits{.links_per_key_max = 2 * kSessionsPerSourceMax,
                                   .unsent_bytes_max = kUnreadAnswersMax};
  auto opened = bus::Listener::start(
      {.what = "the data port",
       .endpoint = options.endpoint,
       .limits = limits,
       .budgets = budgets,
       .begin = [this] { return std::make_unique<bus::CurveServer>(curve); },
       .on_message = [this](bus::Message message) { receive(std::move(message)); },
       .on_closed = [this](bus::LinkId link) { end_of(link); }});
  if (!opened) {
    if (opened.error().code != ErrorCode::kUnavailable) {
      return fail(opened.error().in("listen for data on " + options.endpoint));
    }
    return fail(ErrorCode::kConflict,
                "listen for data on " + options.endpoint + ": the port is in use",
                "see who has it with `ss -ltnp`, stop that or set another data.listen");
  }
  port = std::move(*opened);

  claim = [this](std::uint64_t session) -> std::optional<std::string> {
    const std::lock_guard lock(workers_mutex);
    const auto found = sealed_workers.find(session);
    if (found == sealed_workers.end() || !claimed.insert(session).second) return std::nullopt;
    return found->second->options().source_key;
  };
  auto beside = bus::Listener::start(
      {.what = "the port for bulk",
       .endpoint = sealed_endpoint_of(options.endpoint),
       .limits = limits,
       .budgets = budgets,
       .begin = [this] { return std::make_unique<BulkDialogue>(claim); },
       .on_message = [this](bus::Message message) { receive_sealed(std::move(message)); },
       .on_closed = {}});
  if (beside) {
    sealed = std::move(*beside);
  } else {
    // Sources can do without: then everything goes inside CURVE.
    log::warn("no_port_for_bulk", {{"endpoint", port->endpoint()}, {"error", beside.error()}});
  }
  return {};
}

// ---- the ports' threads

void Receiver::Impl::post(bus::LinkId link, const msg::DataFrame& frame, std::string payload) {
  std::vector<std::string> parts{encode(frame)};
  if (!payload.empty()) parts.push_back(std::move(payload));
  // A connection that is gone: its source opens a new session.
  if (port->send(link, std::move(parts)) != bus::Listener::Sent::kFull) return;
  ++refused;
  log::warn("answers_not_read", {{"address", port->address_of(link)}});
  port->close(link);
}

void Receiver::Impl::refuse(bus::LinkId link, const Error& error) {
  ++refused;
  post(link, data::frame(msg::DeltaRefused{.fault = to_fault(error)}), {});
}

void Receiver::Impl::receive(bus::Message message) {
  SessionWorker::Incoming incoming{.charge = std::move(message.charge)};
  const std::string_view head = message.parts[0].view();
  auto frame = head.size() > kHeadBytesMax
                   ? fail(ErrorCode::kTooLarge,
                          "a frame has a head of " + std::to_string(head.size()) + " bytes")
                   : msg::decode<msg::DataFrame>(head);
  if (!frame) {
    ++refused;
    log::warn("data_frame_refused", {{"source", message.key}, {"error", frame.error()}});
    return;
  }
  incoming.frame = std::move(*frame);
  incoming.cost += head.size();
  // A few bytes can name many disks, each of which takes more than these once it is decoded.
  if (const auto* open = std::get_if<msg::OpenDelta>(&incoming.frame.value)) {
    if (open->disks.size() > kDisksMax) {
      refuse(message.link, {.code = ErrorCode::kTooLarge,
                            .what = "a point has " + std::to_string(open->disks.size()) + " disks",
                            .advice = {}});
      return;
    }
    incoming.cost += 256 * open->disks.size();
  }
  if (message.parts.size() > 1) incoming.payload = std::move(message.parts[1]);
  if (const auto* batch = std::get_if<msg::BlockBatch>(&incoming.frame.value)) {
    const std::size_t bytes = incoming.payload ? incoming.payload->view().size() : 0;
    incoming.cost = cost_of(*batch, bytes);
    ++batches;
    payload_bytes += bytes;
  } else if (incoming.payload) {
    incoming.cost += incoming.payload->view().size();
  }
  dispatch(message.link, message.key, std::move(incoming));
}

// What does not open ends the session that it is for.
void Receiver::Impl::receive_sealed(bus::Message message) {
  const std::uint64_t session = replica::number_at(message.parts[0].view(), 0, 8);
  const std::lock_guard lock(workers_mutex);
  if (is_closing) return;
  const auto found = sealed_workers.find(session);
  if (found == sealed_workers.end()) {
    sealed->close(message.link);  // It has ended.
    return;
  }
  const std::size_t bytes = message.parts[2].view().size();
  ++batches;
  ++sealed_batches;
  payload_bytes += bytes;
  SessionWorker::Incoming incoming{.sealed = std::move(message.parts[1]),
                                   .payload = std::move(message.parts[2]),
                                   .charge = std::move(message.charge)};
  incoming.cost = incoming.sealed->view().size() + bytes;
  put(*found->second, std::move(incoming));
}

void Receiver::Impl::dispatch(bus::LinkId link, const std::string& key,
                              SessionWorker::Incoming incoming) {
  const std::lock_guard lock(workers_mutex);
  if (is_closing) return;
  auto found = workers.find(link);
  if (found != workers.end() && found->second->has_ended()) {
    forget_ended();
    found = workers.end();
  }
  // One that pings without a session waits for an answer that will not come: it is told so.
  if (found != workers.end() && std::holds_alternative<msg::DataPing>(incoming.frame.value)) {
    found->second->heard();
    post(link, data::frame(msg::DataPong{}), {});
    return;
  }
  if (found != workers.end()) {
    put(*found->second, std::move(incoming));
    return;
  }
  if (!std::holds_alternative<msg::OpenDelta>(incoming.frame.value)) {
    refuse(link,
           {.code = ErrorCode::kUnavailable, .what = "the session is not open here", .advice = {}});
    return;
  }
  const auto opened = open_session(link, key);
  if (!opened) {
    refuse(link, opened.error());
    return;
  }
  put(**opened, std::move(incoming));
}

// With the workers' mutex, as the following.
Result<SessionWorker*> Receiver::Impl::open_session(bus::LinkId link, const std::string& key) {
  forget_ended();
  if (is_closing) return fail(ErrorCode::kUnavailable, "this agent is being stopped");
  const auto of_key = std::ranges::count_if(
      workers, [&](const auto& one) { return one.second->options().source_key == key; });
  if (static_cast<std::size_t>(of_key) >= kSessionsPerSourceMax) {
    return fail(ErrorCode::kUnavailable, "this source has too many sessions open at once",
                "replication goes on by itself as they end");
  }
  if (workers.size() >= kSessionsMax) {
    return fail(ErrorCode::kUnavailable, "this host receives from too many sources at once",
                "replication goes on by itself as their sessions end");
  }
  const std::uint64_t number = next_number++;
  Session::World here = world;
  here.window_bytes = window_for(key);
  here.sealed_port = sealed ? port_of(sealed->endpoint()) : std::uint16_t{0};
  here.sealed_session = sealed ? random_session() : 0;
  here.send = [this, link](const msg::DataFrame& frame, std::string payload) {
    post(link, frame, std::move(payload));
  };
  here.on_opened = [this, number](const std::string& item) { end_older(item, number); };
  const std::uint64_t sealed_session = here.sealed_session;
  ++sessions;
  auto worker = std::make_unique<SessionWorker>(SessionWorker::Options{
      .link = link,
      .number = number,
      .source_key = key,
      .world = std::move(here),
      .idle = std::chrono::seconds(options.idle_s),
      .on_refused =
          [this, link, key](const Error& error) {
            log::warn("session_refused", {{"source", key}, {"error", error}});
            refuse(link, error);
          },
      .on_ended = [this] { --sessions; }});
  SessionWorker* const begun = worker.get();
  if (sealed_session != 0) sealed_workers[sealed_session] = begun;
  workers[link] = std::move(worker);
  return begun;
}

// The first sessions of a source get all they can use; of what is left for it each further one
// gets half, and always enough for one batch.
std::uint64_t Receiver::Impl::window_for(const std::string& key) const {
  std::uint64_t left = bus::kPeerBytesMax - (bus::kPeerBytesMax / 8);
  for (const auto& [link, worker] : workers) {
    if (worker->options().source_key != key) continue;
    left -= std::min(left, worker->window_bytes());
  }
  return std::min(options.window_bytes, std::max(left / 2, kWindowBytesMin));
}

void Receiver::Impl::put(SessionWorker& worker, SessionWorker::Incoming incoming) {
  if (worker.put(std::move(incoming))) return;
  refuse(worker.options().link, {.code = ErrorCode::kForbidden,
                                 .what = "the source sent more than it had credit for",
                                 .advice = {}});
}

void Receiver::Impl::forget_ended() {
  std::erase_if(workers, [this](const auto& one) {
    SessionWorker& worker = *one.second;
    if (!worker.has_ended()) return false;
    sealed_workers.erase(worker.sealed_session());
    claimed.erase(worker.sealed_session());
    std::erase_if(writers,
                  [&](const auto& writer) { return writer.second == worker.options().number; });
    return true;
  });
}

void Receiver::Impl::end_of(bus::LinkId link) {
  const std::lock_guard lock(workers_mutex);
  if (const auto found = workers.find(link); found != workers.end()) found->second->stop();
}

// ---- a session's thread

// At once, so that nobody can hold an item's place with sessions that say nothing more.
void Receiver::Impl::end_older(const std::string& item, std::uint64_t number) {
  const std::lock_guard lock(workers_mutex);
  const std::uint64_t older = std::exchange(writers[item], number);
  if (older == number) return;  // A source may open its session anew.
  for (const auto& [link, worker] : workers) {
    if (worker->options().number != older || worker->has_ended()) continue;
    worker->stop();
    refuse(
        link,
        {.code = ErrorCode::kConflict, .what = "a newer session replicates " + item, .advice = {}});
  }
}

// ---- the owner's side

Receiver::Receiver(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Receiver::~Receiver() = default;

Result<std::unique_ptr<Receiver>> Receiver::start(ReceiverOptions options, const Clock& clock) {
  auto impl = std::make_unique<Impl>();
  impl->arrivals = std::make_unique<ArrivalClock>(clock);
  impl->options = std::move(options);
  if (!bus::is_key(impl->options.keys.public_key) || !bus::is_key(impl->options.keys.secret_key)) {
    return fail(ErrorCode::kInvalidArgument, "the data port needs a CURVE key pair");
  }
  Impl* const raw = impl.get();
  impl->world = {.open_item = impl->options.open_item,
                 .introduction = [raw](const std::string& item) -> Introduction* {
                   const std::lock_guard lock(raw->mutex);
                   const auto found = raw->introductions.find(item);
                   return found == raw->introductions.end() ? nullptr : found->second.get();
                 },
                 .on_durable = impl->options.on_durable,
                 .on_opened = {},
                 .send = {},
                 .arrivals = impl->arrivals.get()};
  FARSIDE_TRY(impl->open_ports());
  return std::unique_ptr<Receiver>(new Receiver(std::move(impl)));
}

const std::string& Receiver::endpoint() const {
  return impl_->port->endpoint();
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
    if (same) {
      const std::lock_guard all(impl_->mutex);
      impl_->admitted.insert(source_key);
      return {};
    }
    if (introduction->allowed) old_key = introduction->source_key;
    introduction->allowed = true;
    introduction->source_key = source_key;
    introduction->epoch = epoch;
    introduction->owner = 0;
  }
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->admitted.insert(source_key);
  }
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
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->admitted.erase(key);
  }
  impl_->port->close_all_of(key);
  if (impl_->sealed) impl_->sealed->close_all_of(key);
}

ReceiverFigures Receiver::figures() const {
  const bus::ListenerStats port = impl_->port->stats();
  const bus::ListenerStats beside = impl_->sealed ? impl_->sealed->stats() : bus::ListenerStats{};
  return {.sessions = impl_->sessions,
          .batches = impl_->batches,
          .sealed_batches = impl_->sealed_batches,
          .payload_bytes = impl_->payload_bytes,
          .refused = impl_->refused + port.broken + beside.broken,
          .strangers = port.refused_keys + beside.refused_keys,
          .turned_away = port.turned_away + beside.turned_away};
}

std::string Receiver::problem() const {
  std::string problem = impl_->port->problem();
  if (problem.empty() && impl_->sealed) problem = impl_->sealed->problem();
  return problem;
}

}  // namespace farside::data
