#include "common/bus/listener.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "common/base/client_address.h"
#include "common/base/log.h"
#include "common/base/strangers.h"
#include "common/bus/link.h"
#include "common/bus/tcp_port.h"
#include "common/reactor/watchdog.h"

namespace farside::bus {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kWakeToken = 0;  // Links count from 1.
constexpr std::uint64_t kPortToken = ~std::uint64_t{0};
constexpr std::size_t kScratchBytes = std::size_t{32} << 10U;  // And so the most that is stashed.
constexpr std::size_t kTurnBytes = std::size_t{1} << 20U;      // Then others have their turn.
constexpr std::size_t kUnitCost = 64;  // What a unit takes beside its bytes.
constexpr int kAcceptsPerTurn = 64;
constexpr milliseconds kAcceptPause{100};
constexpr milliseconds kTendEvery{50};

}  // namespace

struct Listener::Impl {
  // What other threads may ask of a connection that is known.
  struct Known {
    std::string key;
    std::string address;
    std::shared_ptr<Budget> budget;
    std::uint64_t unsent = 0;
  };
  struct Order {
    LinkId link = 0;
    std::vector<std::string> parts;  // Empty: close it.
    Charge charge;
  };

  explicit Impl(Options options_in)
      : options(std::move(options_in)),
        strangers(options.limits.strangers_max, options.limits.strangers_per_address_max),
        scratch(kScratchBytes) {}

  void run();
  void turn();
  int patience() const;
  void accept_all();
  void begin(Descriptor fd, const sockaddr_storage& address);
  void on_event(std::uint64_t token, std::uint32_t events);
  bool read(Link& link);
  bool feed(Link& link, std::string_view bytes);
  bool begin_unit(Link& link);
  bool finish_unit(Link& link);
  void become_known(Link& link);
  bool flush(Link& link);
  void watch(Link& link);
  void end(LinkId id);
  void break_off(Link& link, const Error& error);
  void take_orders();
  void tend(Moment now);
  void resume();
  void wake() const;
  void note(const char* event, const std::string& address, const Error& error);

  const Options options;
  Descriptor epoll;
  Descriptor wake_fd;
  Descriptor port;
  std::string endpoint;
  std::atomic<bool> stopping = false;
  std::thread thread;

  // The thread's own.
  Strangers strangers;
  Bytes scratch;
  LinkId next_id = 1;
  std::unordered_map<LinkId, std::unique_ptr<Link>> links;
  std::map<std::string, std::deque<LinkId>> links_of;  // Of each key, oldest first.
  std::vector<LinkId> paused;
  Moment accept_again{};
  Moment tended{};
  Moment noted{};

  mutable std::mutex mutex;  // Guards the next four.
  std::map<LinkId, Known> known;
  std::deque<Order> orders;
  std::vector<std::string> unwanted;  // Keys.
  std::string problem;

  std::atomic<std::uint64_t> strangers_now = 0;
  std::atomic<std::uint64_t> admitted = 0;
  std::atomic<std::uint64_t> refused_keys = 0;
  std::atomic<std::uint64_t> turned_away = 0;
  std::atomic<std::uint64_t> broken = 0;
};

void Listener::Impl::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd.get(), &one, sizeof one);
}

// A line a second at most in the long run, however hard strangers knock.
void Listener::Impl::note(const char* event, const std::string& address, const Error& error) {
  // One a second, and some at once: the second stranger of a moment may be the one that matters.
  constexpr std::chrono::seconds kEvery(1);
  constexpr int kAtOnce = 10;
  const Moment now = steady_clock::now();
  const Moment last = std::max(noted, now - kAtOnce * kEvery);
  if (now - last < kEvery) return;
  noted = last + kEvery;
  log::warn(event, {{"port", endpoint},
                    {"address", address},
                    {"error", error},
                    {"refused", refused_keys.load()},
                    {"broken", broken.load()},
                    {"turned_away", turned_away.load()}});
}

void Listener::Impl::run() {
  reactor::Beat beat(options.what);
  while (!stopping) {
    beat.beat();
    try {
      turn();
    } catch (const std::exception& error) {
      log::error("port_stopped", {{"port", endpoint}, {"error", error.what()}});
      const std::lock_guard lock(mutex);
      problem = options.what + " " + endpoint + " stopped: " + error.what();
      break;
    }
  }
  port.reset();
  while (!links.empty()) end(links.begin()->first);
}

void Listener::Impl::turn() {
  std::array<epoll_event, 128> events{};
  const int count =
      ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), patience());
  for (int i = 0; i < count; ++i) {
    on_event(events[static_cast<std::size_t>(i)].data.u64,
             events[static_cast<std::size_t>(i)].events);
  }
  take_orders();
  tend(steady_clock::now());
}

int Listener::Impl::patience() const {
  if (!paused.empty()) return 20;
  return strangers.size() > 0 ? 100 : 500;
}

void Listener::Impl::on_event(std::uint64_t token, std::uint32_t events) {
  if (token == kWakeToken) {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto taken = ::read(wake_fd.get(), &count, sizeof count);
    return;
  }
  if (token == kPortToken) {
    accept_all();
    return;
  }
  const auto found = links.find(token);
  if (found == links.end()) return;
  Link& link = *found->second;
  if ((events & EPOLLOUT) != 0 && !flush(link)) return;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
    // One that is paused is read again once there is room; what broke meanwhile shows then.
    if (link.paused && (events & (EPOLLHUP | EPOLLERR)) == 0) return;
    if (link.paused) {
      end(token);
      return;
    }
    read(link);
  }
}

// ---- who comes in

void Listener::Impl::accept_all() {
  for (int n = 0; n < kAcceptsPerTurn; ++n) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    Descriptor fd(::accept4(port.get(), reinterpret_cast<sockaddr*>(&address), &size,
                            SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      begin(std::move(fd), address);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    const bool is_short = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    note("accept_failed", {}, {.code = ErrorCode::kUnavailable, .what = std::strerror(errno)});
    // No descriptor is left: a stranger's is the one to have, else going on would spin.
    if (const auto oldest = is_short ? strangers.oldest() : std::nullopt) {
      ++turned_away;
      end(*oldest);
      continue;
    }
    accept_again = steady_clock::now() + kAcceptPause;
    epoll_event none{.events = 0, .data = {.u64 = kPortToken}};
    std::ignore = ::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, port.get(), &none);
    return;
  }
}

void Listener::Impl::begin(Descriptor fd, const sockaddr_storage& address) {
  std::string neighbourhood = client_address(host_of(address)).group;
  while (const auto in_the_way = strangers.in_the_way(neighbourhood)) {
    ++turned_away;
    end(*in_the_way);
  }
  set_up_connection(fd.get());
  auto link = std::make_unique<Link>();
  link->id = next_id++;
  link->fd = std::move(fd);
  link->address = text_of(address);
  link->dialogue = options.begin();
  link->since = steady_clock::now();
  Link& begun = *link;
  epoll_event event{.events = 0, .data = {.u64 = begun.id}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, begun.fd.get(), &event) != 0) return;
  strangers.add(begun.id, std::move(neighbourhood));
  strangers_now = strangers.size();
  links[begun.id] = std::move(link);
  if (std::string greeting = begun.dialogue->greeting(); !greeting.empty()) {
    begun.out.push_back({.bytes = std::move(greeting), .charge = {}});
  }
  flush(begun);
}

void Listener::Impl::become_known(Link& link) {
  strangers.remove(link.id);
  strangers_now = strangers.size();
  ++admitted;
  link.is_known = true;
  const std::string& key = link.dialogue->key();
  link.budget = options.budgets->of(key);
  link.charge = Charge(link.budget);
  auto& of_key = links_of[key];
  of_key.push_back(link.id);
  {
    const std::lock_guard lock(mutex);
    known[link.id] = {.key = key, .address = link.address, .budget = link.budget};
  }
  if (of_key.size() <= options.limits.links_per_key_max) return;
  ++turned_away;
  end(of_key.front());
}

// ---- what comes in

// False if the connection has ended.
bool Listener::Impl::read(Link& link) {
  for (std::size_t got = 0; got < kTurnBytes;) {
    if (!begin_unit(link)) {
      watch(link);
      return true;
    }
    const std::size_t missing = link.unit.size() - link.have;
    const bool direct = missing >= kScratchBytes;
    char* const to = direct ? link.unit.span().data() + link.have : scratch.span().data();
    const ssize_t n = ::recv(link.fd.get(), to, direct ? missing : kScratchBytes, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
    if (n <= 0) {
      end(link.id);
      return false;
    }
    const auto bytes = static_cast<std::size_t>(n);
    got += bytes;
    if (!direct) {
      if (!feed(link, scratch.view().substr(0, bytes))) return false;
      continue;
    }
    link.have += bytes;
    if (link.have == link.unit.size() && !finish_unit(link)) return false;
  }
  return true;
}

// False if the connection has ended.
bool Listener::Impl::feed(Link& link, std::string_view bytes) {
  while (!bytes.empty()) {
    if (!begin_unit(link)) {
      link.stash = bytes;
      watch(link);
      return true;
    }
    const std::size_t part = std::min(bytes.size(), link.unit.size() - link.have);
    std::memcpy(link.unit.span().data() + link.have, bytes.data(), part);
    link.have += part;
    bytes.remove_prefix(part);
    if (link.have == link.unit.size() && !finish_unit(link)) return false;
  }
  return true;
}

// False if there is no room for what comes next: the connection is paused.
bool Listener::Impl::begin_unit(Link& link) {
  if (link.unit.size() != 0) return true;
  const std::size_t needs = link.dialogue->needs();
  // What comes in leaves room for answers: else they would be "full" for no fault of the peer's.
  if (link.is_known && !link.charge.add(needs + kUnitCost, link.budget->max / 8)) {
    if (!link.paused) {
      link.paused = steady_clock::now();
      paused.push_back(link.id);
    }
    return false;
  }
  link.unit = Bytes(needs);
  link.have = 0;
  return true;
}

// False if the connection has ended.
bool Listener::Impl::finish_unit(Link& link) {
  auto taken = link.dialogue->take(std::exchange(link.unit, Bytes()));
  if (!taken) {
    break_off(link, taken.error());
    return false;
  }
  if (!link.is_known && !taken->answer.empty()) strangers.spoke(link.id);
  const LinkId id = link.id;
  if (!link.is_known && !link.dialogue->key().empty()) become_known(link);
  if (!taken->answer.empty()) {
    link.out.push_back({.bytes = std::move(taken->answer), .charge = {}});
    if (!flush(link)) return false;
  }
  if (taken->message) {
    Message message{.link = id,
                    .key = link.dialogue->key(),
                    .parts = std::move(*taken->message),
                    .charge = std::exchange(link.charge, Charge(link.budget))};
    options.on_message(std::move(message));
  }
  return true;
}

void Listener::Impl::break_off(Link& link, const Error& error) {
  const bool is_refused = error.code == ErrorCode::kUnauthorized;
  ++(is_refused ? refused_keys : broken);
  note(is_refused ? "unknown_key_refused" : "connection_refused", link.address, error);
  const LinkId id = link.id;
  if (std::string farewell = link.dialogue->farewell(); !farewell.empty()) {
    link.out.push_back({.bytes = std::move(farewell), .charge = {}});
    if (!flush(link)) return;
  }
  end(id);
}

// ---- what goes out

// False if the connection has ended.
bool Listener::Impl::flush(Link& link) {
  std::uint64_t sent = 0;
  bool is_over = false;
  while (!link.out.empty()) {
    const Link::Out& first = link.out.front();
    const ssize_t n = ::send(link.fd.get(), first.bytes.data() + link.written,
                             first.bytes.size() - link.written, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      is_over = errno != EAGAIN && errno != EWOULDBLOCK;
      break;
    }
    link.stalled.reset();
    link.written += static_cast<std::size_t>(n);
    if (link.written < first.bytes.size()) continue;
    sent += first.charge.bytes();
    link.out.pop_front();
    link.written = 0;
  }
  if (sent > 0) {
    const std::lock_guard lock(mutex);
    if (const auto found = known.find(link.id); found != known.end()) found->second.unsent -= sent;
  }
  if (is_over) {
    end(link.id);
    return false;
  }
  if (link.out.empty()) {
    link.stalled.reset();
  } else if (!link.stalled) {
    link.stalled = steady_clock::now();
  }
  watch(link);
  return true;
}

void Listener::Impl::watch(Link& link) {
  std::uint32_t wanted = link.paused ? 0U : static_cast<std::uint32_t>(EPOLLIN);
  if (!link.out.empty()) wanted |= EPOLLOUT;
  if (wanted == link.watched) return;
  link.watched = wanted;
  epoll_event event{.events = wanted, .data = {.u64 = link.id}};
  std::ignore = ::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, link.fd.get(), &event);
}

void Listener::Impl::take_orders() {
  std::deque<Order> batch;
  std::vector<std::string> keys;
  {
    const std::lock_guard lock(mutex);
    batch.swap(orders);
    keys.swap(unwanted);
  }
  for (const std::string& key : keys) {
    const auto found = links_of.find(key);
    if (found == links_of.end()) continue;
    for (const LinkId id : std::deque<LinkId>(found->second)) end(id);
  }
  for (Order& order : batch) {
    const auto found = links.find(order.link);
    if (found == links.end()) continue;
    Link& link = *found->second;
    if (order.parts.empty()) {
      end(order.link);
      continue;
    }
    std::string bytes;
    for (std::size_t i = 0; i < order.parts.size(); ++i) {
      bytes += link.dialogue->seal(order.parts[i], i + 1 < order.parts.size());
    }
    link.out.push_back({.bytes = std::move(bytes), .charge = std::move(order.charge)});
    flush(link);
  }
}

// ---- who goes

void Listener::Impl::end(LinkId id) {
  const auto found = links.find(id);
  if (found == links.end()) return;
  const std::unique_ptr<Link> link = std::move(found->second);
  links.erase(found);
  strangers.remove(id);
  strangers_now = strangers.size();
  std::erase(paused, id);
  if (!link->is_known) return;
  const auto of_key = links_of.find(link->dialogue->key());
  std::erase(of_key->second, id);
  if (of_key->second.empty()) links_of.erase(of_key);
  {
    const std::lock_guard lock(mutex);
    known.erase(id);
  }
  if (options.on_closed) options.on_closed(id);
}

void Listener::Impl::tend(Moment now) {
  resume();
  if (now - tended < kTendEvery) return;
  tended = now;
  if (accept_again != Moment{} && now >= accept_again) {
    accept_again = {};
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kPortToken}};
    std::ignore = ::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, port.get(), &event);
  }
  std::vector<LinkId> late;
  for (const auto& [id, link] : links) {
    const bool unproven = !link->is_known && now - link->since > options.limits.proof_within;
    const bool unread = (link->paused && now - *link->paused > options.limits.unread_max) ||
                        (link->stalled && now - *link->stalled > options.limits.unread_max);
    if (!unproven && !unread) continue;
    ++(unproven ? turned_away : broken);
    late.push_back(id);
  }
  for (const LinkId id : late) end(id);
}

// Those that are paused go on as soon as there is room.
void Listener::Impl::resume() {
  for (const LinkId id : std::exchange(paused, {})) {
    const auto found = links.find(id);
    if (found == links.end()) continue;
    Link& link = *found->second;
    const auto since = std::exchange(link.paused, std::nullopt);
    const std::string stash = std::exchange(link.stash, {});
    if (!feed(link, stash)) continue;
    const bool has_moved = link.stash.size() < stash.size();
    if (link.paused || !begin_unit(link)) {
      if (!has_moved) link.paused = since;
    } else {
      watch(link);
    }
  }
}

// ---- the owner's side

Listener::Listener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Listener::~Listener() {
  impl_->stopping = true;
  impl_->wake();
  if (impl_->thread.joinable()) impl_->thread.join();
}

Result<std::unique_ptr<Listener>> Listener::start(Options options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  FARSIDE_ASSIGN(impl->port, listen_on(impl->options.endpoint));
  impl->endpoint = endpoint_of(impl->port.get());
  impl->epoll = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  impl->wake_fd = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event port{.events = EPOLLIN, .data = {.u64 = kPortToken}};
  epoll_event wake{.events = EPOLLIN, .data = {.u64 = kWakeToken}};
  if (!impl->epoll || !impl->wake_fd ||
      ::epoll_ctl(impl->epoll.get(), EPOLL_CTL_ADD, impl->port.get(), &port) != 0 ||
      ::epoll_ctl(impl->epoll.get(), EPOLL_CTL_ADD, impl->wake_fd.get(), &wake) != 0) {
    return fail(ErrorCode::kInternal,
                fmt::format("listen on {}: {}", impl->endpoint, std::strerror(errno)));
  }
  impl->thread = std::thread([raw = impl.get()] { raw->run(); });
  return std::unique_ptr<Listener>(new Listener(std::move(impl)));
}

const std::string& Listener::endpoint() const {
  return impl_->endpoint;
}

Listener::Sent Listener::send(LinkId link, std::vector<std::string> parts) {
  std::uint64_t bytes = kUnitCost;
  for (const std::string& part : parts) bytes += part.size();
  bool is_first = false;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto found = impl_->known.find(link);
    if (found == impl_->known.end()) return Sent::kAway;
    Charge charge(found->second.budget);
    if (found->second.unsent + bytes > impl_->options.limits.unsent_bytes_max ||
        !charge.add(bytes)) {
      return Sent::kFull;
    }
    found->second.unsent += bytes;
    is_first = impl_->orders.empty();
    impl_->orders.push_back({.link = link, .parts = std::move(parts), .charge = std::move(charge)});
  }
  if (is_first) impl_->wake();
  return Sent::kYes;
}

void Listener::close(LinkId link) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->orders.push_back({.link = link, .parts = {}, .charge = {}});
  }
  impl_->wake();
}

void Listener::close_all_of(const std::string& key) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->unwanted.push_back(key);
  }
  impl_->wake();
}

std::string Listener::address_of(LinkId link) const {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->known.find(link);
  return found == impl_->known.end() ? std::string() : found->second.address;
}

ListenerStats Listener::stats() const {
  std::uint64_t known = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    known = impl_->known.size();
  }
  return {.strangers = impl_->strangers_now,
          .known = known,
          .admitted = impl_->admitted,
          .refused_keys = impl_->refused_keys,
          .turned_away = impl_->turned_away,
          .broken = impl_->broken};
}

std::string Listener::problem() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->problem;
}

}  // namespace farside::bus
