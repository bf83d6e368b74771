// A TCP connection by hand, for tests that play a stranger or a hostile peer.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace farside::test {

class RawTcp final {
 public:
  // From the loopback address `from`, such as 127.0.0.5, to the port of `endpoint` on 127.0.0.1.
  explicit RawTcp(const std::string& endpoint, const char* from = "127.0.0.1")
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in source{};
    source.sin_family = AF_INET;
    ::inet_pton(AF_INET, from, &source.sin_addr);
    std::ignore = ::bind(fd_, reinterpret_cast<const sockaddr*>(&source), sizeof source);
    sockaddr_in target{};
    target.sin_family = AF_INET;
    const std::string port = endpoint.substr(endpoint.rfind(':') + 1);
    target.sin_port = htons(static_cast<std::uint16_t>(std::strtoul(port.c_str(), nullptr, 10)));
    ::inet_pton(AF_INET, "127.0.0.1", &target.sin_addr);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&target), sizeof target) == 0;
  }
  ~RawTcp() {
    if (fd_ >= 0) ::close(fd_);
  }
  RawTcp(RawTcp&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}
  RawTcp& operator=(RawTcp&&) = delete;

  int fd() const { return fd_; }
  bool is_connected() const { return connected_; }

  // False once the other end has closed.
  bool send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  // As much of it as goes without waiting.
  std::size_t send_some(std::string_view bytes) const {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  // All that comes within `ms`, or until the other end closes.
  std::string receive(int ms) const {
    std::string out;
    std::array<char, 4096> part{};
    for (pollfd one{.fd = fd_, .events = POLLIN, .revents = 0}; ::poll(&one, 1, ms) == 1;) {
      const ssize_t n = ::recv(fd_, part.data(), part.size(), 0);
      if (n <= 0) break;
      out.append(part.data(), static_cast<std::size_t>(n));
    }
    return out;
  }
  // Whether the other end closes within `ms`; what it sends before is dropped.
  bool is_closed_within(int ms) const {
    std::array<char, 4096> part{};
    for (pollfd one{.fd = fd_, .events = POLLIN, .revents = 0}; ::poll(&one, 1, ms) == 1;) {
      if (::recv(fd_, part.data(), part.size(), 0) <= 0) return true;
    }
    return false;
  }

 private:
  int fd_;
  bool connected_ = false;
};

// What a client of ZMTP 3 with CURVE says first.
inline std::string curve_greeting() {
  std::string out(64, '\0');
  out[0] = '\xFF';
  out[9] = '\x7F';
  out[10] = 3;
  out.replace(12, 5, "CURVE");
  return out;
}

}  // namespace farside::test
