#include "services/agent/platforms/libvirt/session.h"

#include <fmt/core.h>
#include <libvirt/virterror.h>

#include <algorithm>
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
constexpr seconds kProbePeriod(1);
// A thread that has not asked for so long has ended, or does not care.
constexpr std::chrono::minutes kIdleMax(5);
constexpr std::chrono::minutes kPastKept(10);

std::string name_of(const ConnectionTarget& target) {
  return target.root.empty() ? target.uri : "qemu:///embed?root=" + target.root;
}

}  // namespace

Session::Session(ConnectionTarget target, seconds call)
    : target_(std::move(target)), call_(call), uri_(name_of(target_)) {}

// Nothing may wait for a daemon that does not answer: neither a call nor a farewell.
Session::~Session() {
  prober_.request_stop();
  if (keeper_.joinable()) {
    keeper_.request_stop();
    keeper_.join();
  }
  const std::lock_guard lock(mutex_);
  probed_.socket.shut_down();
  for (const auto& [thread, mine] : of_threads_) mine.opened.socket.shut_down();
}

Result<std::unique_ptr<Session>> Session::open(ConnectionTarget target, seconds call) {
  if (target.uri.empty() == target.root.empty()) {
    return fail(ErrorCode::kInvalidArgument, "libvirt: give either a URI or a root directory");
  }
  std::unique_ptr<Session> session(new Session(std::move(target), call));
  if (!session->target_.root.empty()) {
    FARSIDE_ASSIGN(session->embedded_, open_connection(session->target_));
    return session;
  }
  session->prober_ =
      std::jthread([raw = session.get()](std::stop_token stop) { raw->probe(stop); });
  session->keeper_ = std::jthread([raw = session.get()](std::stop_token stop) { raw->keep(stop); });
  for (const Deadline deadline(kFirstWait); !session->use() && deadline.pause();) {
  }
  return session;
}

std::unexpected<Error> Session::away(const std::string& why) const {
  return fail(ErrorCode::kUnavailable, fmt::format("libvirt at {} is away: {}", uri_, why),
              "check that its daemon runs; the agent goes on by itself as soon as it answers");
}

Result<virConnectPtr> Session::use() {
  set_error_uri(uri_);
  if (embedded_) return embedded_.get();
  const auto now = steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    if (!is_up_) return away(why_away_);
    if (const auto found = of_threads_.find(std::this_thread::get_id());
        found != of_threads_.end()) {
      OfThread& mine = found->second;
      mine.used = now;
      if (virConnectIsAlive(mine.opened.connection.get()) == 1) {
        return mine.opened.connection.get();
      }
      of_threads_.erase(found);  // Its owner is here: nobody uses it.
    }
  }
  FARSIDE_ASSIGN(auto opened, open_for_this_thread());
  const std::lock_guard lock(mutex_);
  if (!is_up_) {
    opened.socket.shut_down();
    return away(why_away_);
  }
  OfThread& mine = of_threads_[std::this_thread::get_id()];
  mine = {.opened = std::move(opened), .used = now};
  return mine.opened.connection.get();
}

Result<Opened> Session::open_for_this_thread() {
  auto opening = open_in_background(target_);
  const Deadline deadline(call_);
  while (opening.wait_for(milliseconds(20)) != std::future_status::ready) {
    const std::lock_guard lock(mutex_);
    if (!is_up_) return away(why_away_);
    if (deadline.passed()) return away("it accepts the connection and does not answer");
  }
  auto opened = opening.get();
  if (!opened) return away(opened.error().what);
  return std::move(*opened);
}

Result<std::optional<QemuUser>> Session::qemu_user() {
  {
    const std::lock_guard lock(mutex_);
    if (qemu_user_) return *qemu_user_;
  }
  FARSIDE_ASSIGN(const virConnectPtr connection, use());
  FARSIDE_ASSIGN(const auto user, qemu_user_of(connection));
  const std::lock_guard lock(mutex_);
  qemu_user_ = user;
  return user;
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
  return libvirt_error(fmt::format("find VM {}", vm_id));
}

void Session::keep(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  do {
    lock.unlock();
    look();
    lock.lock();
  } while (!woken_.wait_for(lock, stop, kLookPeriod, [&] { return stop.stop_requested(); }));
}

void Session::lose(const std::string& why) {
  log::warn("libvirt_lost", {{"uri", uri_}, {"cause", why}});
  is_up_ = false;
  why_away_ = why;
  qemu_user_.reset();  // The next one may have been told otherwise.
  probed_.socket.shut_down();
  const auto until = steady_clock::now() + kPastKept;
  for (auto& [thread, mine] : of_threads_) {
    mine.opened.socket.shut_down();
    past_.push_back({.opened = std::move(mine.opened), .used = until});
  }
  of_threads_.clear();
}

void Session::reap(Instant now) {
  std::erase_if(past_, [&](const OfThread& each) { return each.used < now; });
  std::erase_if(of_threads_, [&](const auto& each) {
    if (each.second.used + kIdleMax > now) return false;
    each.second.opened.socket.shut_down();
    return true;
  });
}

// What the daemon's end of the connection says comes from libvirt, and costs nothing to ask for;
// its own callback would come on the thread of its event loop, perhaps after we are gone.
void Session::look() {
  const auto now = steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    reap(now);
    if (is_up_) {
      if (virConnectIsAlive(probed_.connection.get()) != 1) {
        lose("the connection was lost");
      } else if (asked_ != Instant{} && now - asked_ > call_) {
        lose("it does not answer");
      } else {
        return;
      }
      pause_ = {};
      again_ = now;
    }
    if (asked_ != Instant{}) return;  // The prober still uses the old one.
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
  if (!opened) {
    pause_ = std::clamp(2 * pause_, kPauseMin, kPauseMax);
    again_ = now + pause_;
    const std::lock_guard lock(mutex_);
    why_away_ = opened.error().what;
    return;
  }
  log::info("libvirt_reached", {{"uri", uri_}});
  const std::lock_guard lock(mutex_);
  probed_ = std::move(*opened);
  is_up_ = true;
}

void Session::probe(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!woken_.wait_for(lock, stop, kProbePeriod, [&] { return stop.stop_requested(); })) {
    if (!is_up_) continue;
    const virConnectPtr connection = probed_.connection.get();
    asked_ = steady_clock::now();
    lock.unlock();
    unsigned long version = 0;
    virConnectGetLibVersion(connection, &version);
    lock.lock();
    asked_ = {};
  }
}

}  // namespace farside::agent::libvirt
