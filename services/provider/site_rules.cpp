#include "services/provider/site_rules.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

namespace farside::provider {

namespace {

bool is_address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> out{};
  return inet_pton(AF_INET, text.c_str(), out.data()) == 1 ||
         inet_pton(AF_INET6, text.c_str(), out.data()) == 1;
}

bool is_cidr(const std::string& text) {
  const auto slash = text.find('/');
  if (slash == std::string::npos || !is_address(text.substr(0, slash))) return false;
  const auto bits = text.substr(slash + 1);
  int value = -1;
  const auto [end, error] = std::from_chars(bits.data(), bits.data() + bits.size(), value);
  const int bits_max = text.find(':') == std::string::npos ? 32 : 128;
  return error == std::errc{} && end == bits.data() + bits.size() && value >= 0 &&
         value <= bits_max;
}

}  // namespace

void Mistakes::add(const std::string& line) {
  all += (all.empty() ? "" : "\n") + source + ": " + line;
}

namespace {

template <class Row>
void names_once(const std::vector<Row>& rows, std::string_view kind, Mistakes& mistakes) {
  std::set<std::string> seen;
  for (const auto& row : rows) {
    if (!seen.insert(row.name).second) {
      mistakes.add(fmt::format("two {}s are named '{}'", kind, row.name));
    }
  }
}

template <class Row>
void must_name(const std::vector<std::string>& names, const std::vector<Row>& rows,
               std::string_view what, Mistakes& mistakes) {
  for (const auto& name : names) {
    const bool found = std::ranges::any_of(rows, [&](const Row& row) { return row.name == name; });
    if (!found) mistakes.add(fmt::format("{} names '{}', which is not defined", what, name));
  }
}

}  // namespace

void check_names(const msg::SiteDefinition& site, Mistakes& mistakes) {
  names_once(site.clouds, "cloud", mistakes);
  names_once(site.host_groups, "host_group", mistakes);
  names_once(site.networks, "network", mistakes);
  names_once(site.storage, "storage_class", mistakes);
  for (const auto& cloud : site.clouds) {
    must_name(cloud.host_groups, site.host_groups, "cloud '" + cloud.name + "'", mistakes);
    must_name(cloud.networks, site.networks, "cloud '" + cloud.name + "'", mistakes);
  }
}

void check_subnet(const msg::Subnet& subnet, Mistakes& mistakes) {
  if (!subnet.cidr.empty() && !is_cidr(subnet.cidr)) {
    mistakes.add(fmt::format("subnet '{}': '{}' is not an address range like 10.1.0.0/24",
                             subnet.name, subnet.cidr));
  }
  for (const auto& address : {subnet.pool_from, subnet.pool_to}) {
    if (!address.empty() && !is_address(address)) {
      mistakes.add(fmt::format("subnet '{}': '{}' is not an address", subnet.name, address));
    }
  }
}

}  // namespace farside::provider
