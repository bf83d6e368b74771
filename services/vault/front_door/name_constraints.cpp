#include "services/vault/front_door/name_constraints.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <openssl/x509v3.h>

#include <array>
#include <memory>
#include <string_view>

#include "services/vault/front_door/uri.h"

namespace farside::front_door {
namespace {

constexpr std::size_t kAddressesMax = 64;
constexpr std::string_view kIpv4Mask = "255.255.255.255";
constexpr std::string_view kIpv6Mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
constexpr std::string_view kNameCharacters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*";

struct FreeConstraints {
  void operator()(NAME_CONSTRAINTS* constraints) const { NAME_CONSTRAINTS_free(constraints); }
};
using Constraints = std::unique_ptr<NAME_CONSTRAINTS, FreeConstraints>;

Constraints constraints_of(const X509* authority) {
  return Constraints(static_cast<NAME_CONSTRAINTS*>(
      X509_get_ext_d2i(authority, NID_name_constraints, nullptr, nullptr)));
}

// Network byte order; empty if it is no address.
std::string bytes_of_address(const std::string& text) {
  std::array<char, sizeof(in6_addr)> bytes{};
  if (::inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) {
    return {bytes.data(), sizeof(in_addr)};
  }
  if (::inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) return {bytes.data(), bytes.size()};
  return {};
}

std::string text_of_address(int family, const void* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(family, address, text.data(), text.size());
  return text.data();
}

std::string_view bytes_of(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<std::size_t>(ASN1_STRING_length(text))};
}

// Source: RFC 5280, section 4.2.1.10: the name itself and all below it.
bool is_within(std::string_view name, std::string_view base) {
  if (base.empty()) return true;
  if (name.size() < base.size()) return false;
  const std::string_view end = name.substr(name.size() - base.size());
  if (!equal_ignoring_case(end, base)) return false;
  return name.size() == base.size() || base.starts_with('.') ||
         name[name.size() - base.size() - 1] == '.';
}

// `range` is an address and its mask.
bool is_within_range(std::string_view address, std::string_view range) {
  if (range.size() != 2 * address.size()) return false;
  for (std::size_t i = 0; i < address.size(); ++i) {
    const auto mask = static_cast<unsigned char>(range[address.size() + i]);
    const auto differs = static_cast<unsigned char>(address[i] ^ range[i]);
    if ((differs & mask) != 0) return false;
  }
  return true;
}

bool matches(const GENERAL_NAME& base, const SubjectName& name) {
  if (name.is_address) {
    return is_within_range(bytes_of_address(name.text), bytes_of(base.d.iPAddress));
  }
  return is_within(name.text, bytes_of(base.d.dNSName));
}

}  // namespace

Result<SubjectName> subject_name(const std::string& text) {
  if (const std::string bytes = bytes_of_address(text); !bytes.empty()) {
    const int family = bytes.size() == sizeof(in_addr) ? AF_INET : AF_INET6;
    return SubjectName{.text = text_of_address(family, bytes.data()), .is_address = true};
  }
  if (text.empty() || text.find_first_not_of(kNameCharacters) != std::string::npos) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("'{}' is neither a host name nor an address", text),
                "correct the names under which the vault is reached");
  }
  return SubjectName{.text = text};
}

std::vector<SubjectName> own_addresses() {
  std::vector<SubjectName> all;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return all;
  for (const ifaddrs* one = first; one != nullptr && all.size() < kAddressesMax;
       one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    if (one->ifa_addr->sa_family == AF_INET) {
      const in_addr address = reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr;
      if (ntohl(address.s_addr) >> 24U == IN_LOOPBACKNET) continue;
      all.push_back({.text = text_of_address(AF_INET, &address), .is_address = true});
    } else if (one->ifa_addr->sa_family == AF_INET6) {
      const in6_addr address = reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr;
      if (IN6_IS_ADDR_LOOPBACK(&address) || IN6_IS_ADDR_LINKLOCAL(&address)) continue;
      all.push_back({.text = text_of_address(AF_INET6, &address), .is_address = true});
    }
  }
  ::freeifaddrs(first);
  return all;
}

std::string name_constraints_of(const std::vector<SubjectName>& permitted) {
  std::string out = "critical";
  for (const SubjectName& name : permitted) {
    if (!name.is_address) {
      // Of "*.example.com" all names below example.com are meant.
      const std::string base = name.text.starts_with("*.") ? name.text.substr(2) : name.text;
      out += ",permitted;DNS:" + base;
    } else {
      const bool is_ipv6 = name.text.contains(':');
      out += fmt::format(",permitted;IP:{}/{}", name.text, is_ipv6 ? kIpv6Mask : kIpv4Mask);
    }
  }
  return out;
}

bool has_name_constraints(const X509* authority) {
  return constraints_of(authority) != nullptr;
}

bool permits(const X509* authority, const SubjectName& name) {
  const Constraints constraints = constraints_of(authority);
  if (constraints == nullptr) return true;
  const int type = name.is_address ? GEN_IPADD : GEN_DNS;
  bool is_limited = false;
  bool is_permitted = false;
  for (int i = 0; i < sk_GENERAL_SUBTREE_num(constraints->permittedSubtrees); ++i) {
    const GENERAL_NAME* base = sk_GENERAL_SUBTREE_value(constraints->permittedSubtrees, i)->base;
    if (base->type != type) continue;
    is_limited = true;
    is_permitted = is_permitted || matches(*base, name);
  }
  for (int i = 0; i < sk_GENERAL_SUBTREE_num(constraints->excludedSubtrees); ++i) {
    const GENERAL_NAME* base = sk_GENERAL_SUBTREE_value(constraints->excludedSubtrees, i)->base;
    if (base->type == type && matches(*base, name)) return false;
  }
  return is_permitted || !is_limited;
}

}  // namespace farside::front_door
