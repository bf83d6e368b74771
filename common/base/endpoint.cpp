#include "common/base/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstddef>

#include "common/base/log_value.h"

namespace farside {
namespace {

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_host(std::string_view host) {
  const bool is_ipv6 = host.starts_with('[') && host.ends_with(']');
  if (is_ipv6) host = host.substr(1, host.size() - 2);
  return !host.empty() && std::ranges::all_of(host, [&](char c) {
    return is_letter_or_digit(c) || c == '.' ||
           (is_ipv6 ? c == ':' || c == '%' : c == '-' || c == '_');
  });
}

bool is_port(std::string_view text) {
  unsigned port = 0;
  const auto end = text.data() + text.size();
  const auto [rest, problem] = std::from_chars(text.data(), end, port);
  return problem == std::errc{} && rest == end && text.size() <= 5 && port >= 1 && port <= 65'535;
}

bool is_endpoint(std::string_view endpoint) {
  constexpr std::string_view kScheme = "tcp://";
  constexpr std::size_t kBytesMax = 300;
  if (endpoint.size() > kBytesMax || !endpoint.starts_with(kScheme)) return false;
  endpoint.remove_prefix(kScheme.size());
  const std::size_t colon = endpoint.rfind(':');
  return colon != std::string_view::npos && is_host(endpoint.substr(0, colon)) &&
         is_port(endpoint.substr(colon + 1));
}

}  // namespace

Status check_endpoint(std::string_view endpoint) {
  if (is_endpoint(endpoint)) return {};
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("{} is not an address to dial", log::quoted(endpoint)),
              "write the endpoint as tcp://HOST:PORT");
}

}  // namespace farside
