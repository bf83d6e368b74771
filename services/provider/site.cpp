#include "services/provider/site.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "common/base/config.h"

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

struct Mistakes {
  std::string file;
  std::string all;
  void add(const std::string& line) { all += (all.empty() ? "" : "\n") + file + ": " + line; }
};

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

msg::Subnet subnet_from(Config& table, Mistakes& mistakes) {
  msg::Subnet subnet{.name = table.required_text("name"),
                     .cidr = table.required_text("cidr"),
                     .vlan = static_cast<std::uint32_t>(table.integer("vlan", 0, 0, 4094)),
                     .pool_from = table.text("pool_from", ""),
                     .pool_to = table.text("pool_to", "")};
  if (!subnet.cidr.empty() && !is_cidr(subnet.cidr)) {
    mistakes.add(fmt::format("subnet '{}': '{}' is not an address range like 10.1.0.0/24",
                             subnet.name, subnet.cidr));
  }
  for (const auto& address : {subnet.pool_from, subnet.pool_to}) {
    if (!address.empty() && !is_address(address)) {
      mistakes.add(fmt::format("subnet '{}': '{}' is not an address", subnet.name, address));
    }
  }
  return subnet;
}

}  // namespace

Result<msg::SiteDefinition> site_from_toml(std::string_view text, const std::string& name) {
  FARSIDE_ASSIGN(auto config, Config::from_text(text, name));
  msg::SiteDefinition site;
  Mistakes mistakes{.file = name, .all = {}};
  const auto finish = [&](Config& table) {
    if (const auto finished = table.finish(); !finished) {
      mistakes.all += (mistakes.all.empty() ? "" : "\n") + finished.error().what;
    }
  };

  for (auto& table : config.tables("cloud")) {
    site.clouds.push_back(msg::Cloud{.name = table.required_text("name"),
                                     .host_groups = table.texts("host_groups"),
                                     .networks = table.texts("networks")});
    finish(table);
  }
  for (auto& table : config.tables("host_group")) {
    site.host_groups.push_back(
        msg::HostGroup{.name = table.required_text("name"), .hosts = table.texts("hosts")});
    finish(table);
  }
  for (auto& table : config.tables("network")) {
    msg::Network network{.name = table.required_text("name"),
                         .logical_network = table.text("logical_network", ""),
                         .host_network = table.required_text("host_network"),
                         .subnets = {}};
    for (auto& subnet : table.tables("subnet")) {
      network.subnets.push_back(subnet_from(subnet, mistakes));
      finish(subnet);
    }
    site.networks.push_back(std::move(network));
    finish(table);
  }
  for (auto& table : config.tables("storage_class")) {
    site.storage.push_back(msg::StorageClass{.name = table.required_text("name"),
                                             .path = table.required_text("path")});
    finish(table);
  }
  finish(config);

  names_once(site.clouds, "cloud", mistakes);
  names_once(site.host_groups, "host_group", mistakes);
  names_once(site.networks, "network", mistakes);
  names_once(site.storage, "storage_class", mistakes);
  for (const auto& cloud : site.clouds) {
    must_name(cloud.host_groups, site.host_groups, "cloud '" + cloud.name + "'", mistakes);
    must_name(cloud.networks, site.networks, "cloud '" + cloud.name + "'", mistakes);
  }
  if (!mistakes.all.empty()) {
    return fail(ErrorCode::kInvalidArgument, mistakes.all,
                "correct the site file; the last good definition stays in force");
  }
  return site;
}

}  // namespace farside::provider
