#include "common/bus/zap_gate.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/bus/curve_keys.h"
#include "common/reactor/watchdog.h"

namespace farside::bus {

struct ZapGate::Impl {
  Impl(zmq::socket_t requests_in, const Clock& clock_in)
      : requests(std::move(requests_in)), clock(clock_in) {}
  ~Impl() {
    if (stop_fd >= 0) ::close(stop_fd);
  }

  void run();
  void answer(const std::vector<std::string>& request);
  void note_refusal(const std::string& key, const std::string& address);

  zmq::socket_t requests;
  const Clock& clock;
  int stop_fd = -1;
  std::thread thread;

  std::mutex mutex;  // Guards `user_ids`.
  std::map<std::string, std::string> user_ids;
  std::atomic<std::uint64_t> admitted = 0;
  std::atomic<std::uint64_t> refused = 0;
  Micros noted{-1};  // When a refusal was last logged; the gate's thread only.
};

void ZapGate::Impl::run() {
  reactor::Beat beat("the key gate");
  while (true) {
    beat.beat();
    std::array<zmq::pollitem_t, 2> items{
        zmq::pollitem_t{.socket = requests.handle(), .fd = 0, .events = ZMQ_POLLIN, .revents = 0},
        zmq::pollitem_t{.socket = nullptr, .fd = stop_fd, .events = ZMQ_POLLIN, .revents = 0}};
    try {
      zmq::poll(items.data(), items.size(), std::chrono::milliseconds(1000));
      if ((items[1].revents & ZMQ_POLLIN) != 0) return;
      std::vector<std::string> request;
      zmq::message_t part;
      while (requests.recv(part, zmq::recv_flags::dontwait)) {
        request.push_back(part.to_string());
        if (part.more()) continue;
        answer(request);
        request.clear();
      }
    } catch (const zmq::error_t& error) {
      if (error.num() == EINTR) continue;
      // The context is being shut down, or the endpoint broke: with no gate nobody is admitted.
      if (error.num() != ETERM) log::error("zap_gate_stopped", {{"error", error.what()}});
      return;
    }
  }
}

// Request: version, id, domain, address, identity, mechanism, credentials (32 bytes with CURVE).
void ZapGate::Impl::answer(const std::vector<std::string>& request) {
  std::string user_id;
  std::string key;
  const bool well_formed = request.size() == 7 && request[0] == "1.0" && request[5] == "CURVE" &&
                           request[6].size() == 32;
  if (well_formed) {
    std::array<char, kKeyTextBytes + 1> text{};
    zmq_z85_encode(text.data(), reinterpret_cast<const std::uint8_t*>(request[6].data()), 32);
    key = text.data();
    const std::lock_guard lock(mutex);
    if (const auto found = user_ids.find(key); found != user_ids.end()) user_id = found->second;
  }
  if (user_id.empty()) {
    ++refused;
    note_refusal(key, request.size() > 3 ? request[3] : "");
  } else {
    ++admitted;
  }
  const std::array<std::string, 6> reply{"1.0",
                                         request.size() > 1 ? request[1] : "",
                                         user_id.empty() ? "400" : "200",
                                         user_id.empty() ? "unknown key" : "",
                                         user_id,
                                         ""};
  for (std::size_t i = 0; i < reply.size(); ++i) {
    requests.send(zmq::buffer(reply[i]),
                  i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
}

// At most one line a second, however hard a stranger knocks.
void ZapGate::Impl::note_refusal(const std::string& key, const std::string& address) {
  const Micros now = clock.monotonic();
  if (noted >= Micros{0} && now - noted < std::chrono::seconds(1)) return;
  noted = now;
  log::warn("unknown_key_refused",
            {{"key", key}, {"address", address}, {"refused", refused.load()}});
}

ZapGate::ZapGate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

ZapGate::~ZapGate() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(impl_->stop_fd, &one, sizeof one);
  impl_->thread.join();
}

Result<std::unique_ptr<ZapGate>> ZapGate::start(zmq::context_t& context, const Clock& clock) {
  try {
    auto impl = std::make_unique<Impl>(zmq::socket_t(context, zmq::socket_type::rep), clock);
    impl->requests.set(zmq::sockopt::linger, 0);
    impl->requests.bind("inproc://zeromq.zap.01");
    impl->stop_fd = ::eventfd(0, EFD_CLOEXEC);
    if (impl->stop_fd < 0) return fail(ErrorCode::kInternal, "start the key gate: no eventfd");
    impl->thread = std::thread([gate = impl.get()] { gate->run(); });
    return std::unique_ptr<ZapGate>(new ZapGate(std::move(impl)));
  } catch (const zmq::error_t& error) {
    const auto code = error.num() == EADDRINUSE ? ErrorCode::kAlreadyExists : ErrorCode::kInternal;
    return fail(code, fmt::format("start the key gate: {}", error.what()));
  }
}

Status ZapGate::allow(const std::string& public_key, const std::string& user_id) {
  if (!is_key(public_key)) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("'{}' is not a public key", public_key),
                "a public key is 40 characters of Z85; copy it whole");
  }
  FARSIDE_ASSERT(!user_id.empty());
  const std::lock_guard lock(impl_->mutex);
  impl_->user_ids[public_key] = user_id;
  return {};
}

void ZapGate::forbid(const std::string& public_key) {
  const std::lock_guard lock(impl_->mutex);
  impl_->user_ids.erase(public_key);
}

std::uint64_t ZapGate::admitted() const {
  return impl_->admitted;
}
std::uint64_t ZapGate::refused() const {
  return impl_->refused;
}

}  // namespace farside::bus
