#include "services/agent/data_plane/bulk_sender.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "services/agent/data_plane/bulk_dialogue.h"

namespace farside::data {
namespace {

constexpr std::uint64_t kQueuedMax = std::uint64_t{128} << 20U;

}  // namespace

Result<std::unique_ptr<BulkSender>> BulkSender::open(const std::string& endpoint,
                                                     std::uint64_t session,
                                                     std::chrono::seconds silent) {
  std::unique_ptr<BulkSender> sender(new BulkSender);
  FARSIDE_ASSIGN(sender->where_, bus::host_port(endpoint));
  sender->hello_ = bulk_hello(session);
  sender->silent_ = silent;
  sender->stop_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!sender->stop_) return fail(ErrorCode::kInternal, "cannot create an event");
  sender->thread_ = std::thread([raw = sender.get()] { raw->run(); });
  return sender;
}

BulkSender::~BulkSender() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(stop_.get(), &one, sizeof one);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

Status BulkSender::send(std::string head, std::string payload) {
  std::string lengths = bulk_lengths(head.size(), payload.size());
  lengths += head;
  {
    const std::lock_guard lock(mutex_);
    if (broken_) return fail(ErrorCode::kUnavailable, "the connection for bulk data broke");
    if (queued_ > kQueuedMax) {
      return fail(ErrorCode::kInternal, "more bulk is under way than the target has room for");
    }
    queued_ += lengths.size() + payload.size();
    queue_.push_back(std::move(lengths));
    if (!payload.empty()) queue_.push_back(std::move(payload));
  }
  wake_.notify_one();
  return {};
}

bool BulkSender::is_broken() const {
  if (broken_ || !connected_) return broken_;
  pollfd one{.fd = socket_.get(), .events = POLLRDHUP, .revents = 0};
  return ::poll(&one, 1, 0) > 0;
}

void BulkSender::run() {
  bool is_fine = connect();
  connected_ = is_fine;
  is_fine = is_fine && write(hello_);
  while (is_fine) {
    std::string next;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      next = std::move(queue_.front());
      queue_.pop_front();
      queued_ -= next.size();
    }
    is_fine = write(next);
  }
  broken_ = true;
}

bool BulkSender::connect() {
  addrinfo* found = nullptr;
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(where_.host.c_str(), where_.port.c_str(), &wanted, &found) != 0) return false;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, ::freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    Descriptor fd(::socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) continue;
    bus::set_up_connection(fd.get());
    const auto silent_ms = static_cast<unsigned>(silent_.count() * 1000);
    std::ignore =
        ::setsockopt(fd.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &silent_ms, sizeof silent_ms);
    socket_ = std::move(fd);
    if (::connect(socket_.get(), one->ai_addr, one->ai_addrlen) == 0) return true;
    if (errno != EINPROGRESS || !wait_to_write()) continue;
    int error = 0;
    socklen_t size = sizeof error;
    const int got = ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (got == 0 && error == 0) return true;
  }
  return false;
}

bool BulkSender::write(const std::string& bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t n = ::send(socket_.get(), bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (n >= 0) {
      at += static_cast<std::size_t>(n);
    } else if (errno != EINTR && ((errno != EAGAIN && errno != EWOULDBLOCK) || !wait_to_write())) {
      return false;
    }
  }
  return true;
}

// False if it took too long, or nobody waits any more.
bool BulkSender::wait_to_write() {
  std::array<pollfd, 2> both{pollfd{.fd = socket_.get(), .events = POLLOUT, .revents = 0},
                             pollfd{.fd = stop_.get(), .events = POLLIN, .revents = 0}};
  const auto patience = std::chrono::duration_cast<std::chrono::milliseconds>(silent_);
  int ready = 0;
  do {
    ready = ::poll(both.data(), both.size(), static_cast<int>(patience.count()));
  } while (ready < 0 && errno == EINTR);
  return ready > 0 && (both[1].revents & POLLIN) == 0;
}

}  // namespace farside::data
