#include "common/base/client_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

namespace farside {
namespace {

constexpr std::size_t kPrefixBytes = 8;  // Of a /64.
constexpr std::size_t kMappedAt = 12;    // Of an IPv4 address within an IPv6 one.
constexpr unsigned char kLoopbackNet = 127;

std::string bytes_of(const void* address, std::size_t count) {
  return {static_cast<const char*>(address), count};
}

ClientAddress of_ipv4(const in_addr& address) {
  const std::string bytes = bytes_of(&address, sizeof address);
  return {.group = bytes, .is_local = static_cast<unsigned char>(bytes[0]) == kLoopbackNet};
}

}  // namespace

ClientAddress client_address(const std::string& text) {
  in_addr ipv4{};
  if (::inet_pton(AF_INET, text.c_str(), &ipv4) == 1) return of_ipv4(ipv4);
  in6_addr ipv6{};
  const std::string without_scope = text.substr(0, text.find('%'));
  if (::inet_pton(AF_INET6, without_scope.c_str(), &ipv6) != 1) return {.group = text};
  if (IN6_IS_ADDR_V4MAPPED(&ipv6)) {
    std::memcpy(&ipv4, &ipv6.s6_addr[kMappedAt], sizeof ipv4);
    return of_ipv4(ipv4);
  }
  return {.group = bytes_of(&ipv6, kPrefixBytes), .is_local = IN6_IS_ADDR_LOOPBACK(&ipv6) != 0};
}

}  // namespace farside
