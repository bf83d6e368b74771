#include "services/agent/platforms/libvirt/session.h"

#include <fmt/core.h>
#include <libvirt/virterror.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/base/log.h"
#include "services/agent/platforms/deadline.h"

namespace farside::agent::libvirt {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr milliseconds kLookPeriod(100);
constexpr milliseconds kPauseMin(250);
constexpr milliseconds kPauseMax(5000);
constexpr seconds kFirstWait(3);
constexpr std::chrono::minutes kPastKept(10);
constexpr unsigned kPings = 3;

std::string name_of(const ConnectionTarget& target) {
  return target.root.empty() ? target.uri : "qemu:///embed?root=" + target.root;
}

}  // namespace

Session::Session(ConnectionTarget target, seconds call)
    : target_(std::move(target)), call_(call), uri_(name_of(target_)) {}

Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::open(ConnectionTarget target, seconds call) {
  if (target.uri.empty() == target.root.empty()) {
    return fail(ErrorCode::kInvalidArgument, "libvirt: give either a URI or a root directory");
  }
  std::unique_ptr<Session> session(new Session(std::move(target), call));
  if (!session->target_.root.empty()) {
    FARSIDE_ASSIGN(session->connection_, open_connection(session->target_));
    session->learn_networks(session->connection_.get());
    return session;
  }
  session->keeper_ = std::jthread([raw = session.get()](std::stop_token stop) { raw->keep(stop); });
  for (const Deadline deadline(kFirstWait); session->get() == nullptr && deadline.pause();) {
  }
  return session;
}

virConnectPtr Session::get() {
  const std::lock_guard lock(mutex_);
  return connection_.get();
}

Result<virConnectPtr> Session::use() {
  const std::lock_guard lock(mutex_);
  if (connection_ && virConnectIsAlive(connection_.get()) == 1) return connection_.get();
  return fail(ErrorCode::kUnavailable,
              fmt::format("libvirt at {} is away: {}", uri_,
                          connection_ ? "the connection was lost" : why_away_),
              "check that its daemon runs; the agent goes on by itself as soon as it answers");
}

Result<DomainHandle> Session::find(const std::string& vm_id) {
  FARSIDE_ASSIGN(const virConnectPtr connection, use());
  DomainHandle domain(virDomainLookupByUUIDString(connection, vm_id.c_str()));
  if (domain) return domain;
  const int number = libvirt_error_number();
  if (number == VIR_ERR_NO_DOMAIN || number == VIR_ERR_INVALID_ARG) {
    return fail(ErrorCode::kNotFound, fmt::format("this host has no VM with the id {}", vm_id),
                "it was deleted or moved: define it here again, or end its protection");
  }
  return libvirt_error(fmt::format("find VM {} at {}", vm_id, uri_));
}

void Session::learn_networks(virConnectPtr connection) {
  if (std::exchange(has_networks_, true)) return;
  virNetworkPtr* list = nullptr;
  // The embedded driver has none, and says so with an error.
  const int count = virConnectListAllNetworks(connection, &list, VIR_CONNECT_LIST_NETWORKS_ACTIVE);
  for (int i = 0; i < count; ++i) {
    const std::unique_ptr<virNetwork, FreeHandle> network(list[i]);
    networks_.emplace_back(virNetworkGetName(network.get()));
  }
  std::free(list);
}

void Session::keep(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  do {
    lock.unlock();
    look();
    lock.lock();
  } while (!woken_.wait_for(lock, stop, kLookPeriod, [&] { return stop.stop_requested(); }));
}

// The state is asked for, as that costs nothing, instead of awaiting libvirt's callback, which
// comes on the thread of its event loop and may come after we are gone.
void Session::look() {
  const auto now = steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(past_, [&](const Past& past) { return past.until < now; });
    if (connection_) {
      if (virConnectIsAlive(connection_.get()) == 1) return;
      log::warn("libvirt_lost", {{"uri", uri_}});
      past_.push_back({.connection = std::move(connection_), .until = now + kPastKept});
      connection_.reset();
      why_away_ = "the connection was lost";
      pause_ = {};
      again_ = now;
    }
  }
  if (!opening_.valid()) {
    if (now < again_) return;
    opening_ = open_in_background(target_);
    again_ = now;
  }
  if (opening_.wait_for(seconds(0)) != std::future_status::ready) {
    if (now < again_ + call_) return;
    const std::lock_guard lock(mutex_);
    why_away_ = "it accepts the connection and does not answer";
    return;
  }
  auto opened = opening_.get();
  if (opened) {
    adopt(std::move(*opened));
    return;
  }
  pause_ = std::clamp(2 * pause_, kPauseMin, kPauseMax);
  again_ = now + pause_;
  const std::lock_guard lock(mutex_);
  why_away_ = opened.error().what;
}

void Session::adopt(ConnectionHandle connection) {
  // Given up after the last ping has gone unanswered for an interval.
  const auto interval = std::max<std::int64_t>(1, call_.count() / (kPings + 1));
  if (virConnectSetKeepAlive(connection.get(), static_cast<int>(interval), kPings) < 0) {
    log::warn("libvirt_not_watched", {{"uri", uri_}, {"error", libvirt_error("pings").error()}});
  }
  learn_networks(connection.get());
  log::info("libvirt_reached", {{"uri", uri_}});
  const std::lock_guard lock(mutex_);
  connection_ = std::move(connection);
}

}  // namespace farside::agent::libvirt
