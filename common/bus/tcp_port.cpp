#include "common/bus/tcp_port.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace farside::bus {
namespace {

void set_option(int fd, int level, int name, int value) {
  std::ignore = ::setsockopt(fd, level, name, &value, sizeof value);
}

// An IPv4 client of a socket that takes both kinds.
bool is_mapped(const sockaddr_storage& address) {
  if (address.ss_family != AF_INET6) return false;
  sockaddr_in6 six{};
  std::memcpy(&six, &address, sizeof six);
  return IN6_IS_ADDR_V4MAPPED(&six.sin6_addr);
}

sockaddr_storage plain(const sockaddr_storage& address) {
  if (!is_mapped(address)) return address;
  sockaddr_in6 six{};
  std::memcpy(&six, &address, sizeof six);
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = six.sin6_port;
  std::memcpy(&four.sin_addr, &six.sin6_addr.s6_addr[12], 4);
  sockaddr_storage out{};
  std::memcpy(&out, &four, sizeof four);
  return out;
}

struct Shown {
  std::string host;
  std::string port;
};
Shown show(const sockaddr_storage& address) {
  const sockaddr_storage shown = plain(address);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&shown), sizeof shown, host.data(),
                    host.size(), port.data(), port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return {};
  }
  return {.host = host.data(), .port = port.data()};
}

}  // namespace

Result<HostPort> host_port(const std::string& endpoint) {
  constexpr std::string_view kScheme = "tcp://";
  const std::size_t colon = endpoint.rfind(':');
  if (!endpoint.starts_with(kScheme) || colon <= kScheme.size()) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("'{}' is no endpoint", endpoint),
                "write it as tcp://ADDRESS:PORT, such as tcp://0.0.0.0:8081");
  }
  HostPort out{.host = endpoint.substr(kScheme.size(), colon - kScheme.size()),
               .port = endpoint.substr(colon + 1)};
  if (out.host.starts_with('[') && out.host.ends_with(']')) {
    out.host = out.host.substr(1, out.host.size() - 2);
  }
  if (out.port == "*") out.port = "0";
  const bool is_number =
      !out.port.empty() && out.port.size() <= 5 &&
      std::ranges::all_of(out.port, [](unsigned char c) { return std::isdigit(c) != 0; });
  if (out.host.empty() || !is_number || std::stoul(out.port) > 65'535) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("'{}' has no port", endpoint),
                "write it as tcp://ADDRESS:PORT, such as tcp://0.0.0.0:8081");
  }
  return out;
}

Result<Descriptor> listen_on(const std::string& endpoint) {
  FARSIDE_ASSIGN(const HostPort where, host_port(endpoint));
  const bool any = where.host == "*";
  addrinfo* found = nullptr;
  addrinfo wanted{};
  wanted.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  wanted.ai_family = any ? AF_INET6 : AF_UNSPEC;
  wanted.ai_socktype = SOCK_STREAM;
  const int code =
      ::getaddrinfo(any ? "::" : where.host.c_str(), where.port.c_str(), &wanted, &found);
  if (code != 0) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("listen on {}: {}", endpoint, ::gai_strerror(code)),
                "write it as tcp://ADDRESS:PORT with an address of this host, such as "
                "tcp://0.0.0.0:8081");
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, ::freeaddrinfo);
  Descriptor fd(::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd && any && errno == EAFNOSUPPORT) {
    return listen_on("tcp://0.0.0.0:" + where.port);  // A host without IPv6.
  }
  if (fd) {
    set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (found->ai_family == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, any ? 0 : 1);
    if (::bind(fd.get(), found->ai_addr, found->ai_addrlen) == 0 &&
        ::listen(fd.get(), SOMAXCONN) == 0) {
      return fd;
    }
  }
  if (errno == EADDRINUSE) {
    return fail(ErrorCode::kUnavailable, fmt::format("listen on {}: the port is in use", endpoint),
                "see who has it with `ss -ltnp`, stop that or set another `listen`");
  }
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("listen on {}: {}", endpoint, std::strerror(errno)),
              "write it as tcp://ADDRESS:PORT with an address of this host, such as "
              "tcp://0.0.0.0:8081");
}

std::string endpoint_of(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return "tcp://" + text_of(address);
}

void set_up_connection(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

std::string text_of(const sockaddr_storage& address) {
  const Shown shown = show(address);
  if (shown.host.empty()) return {};
  return shown.host.contains(':') ? fmt::format("[{}]:{}", shown.host, shown.port)
                                  : fmt::format("{}:{}", shown.host, shown.port);
}

std::string host_of(const sockaddr_storage& address) {
  return show(address).host;
}

}  // namespace farside::bus
