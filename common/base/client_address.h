// Where a client comes from, as limits count it: whoever has one IPv6 address has all of its /64.
#pragma once

#include <string>

namespace farside {

struct ClientAddress {
  std::string group;      // The bytes of an IPv4 address, or of the first half of an IPv6 one.
  bool is_local = false;  // Loopback: on this host.
};

// Of "192.0.2.7", "2001:db8::1", "fe80::1%eth0"; an IPv4 address within an IPv6 one is itself.
// A text that is no address is a group of its own.
ClientAddress client_address(const std::string& text);

}  // namespace farside
