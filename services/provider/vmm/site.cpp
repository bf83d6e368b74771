#include "services/provider/vmm/site.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "common/base/config.h"
#include "services/provider/site_rules.h"

namespace farside::provider::vmm {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kRowsMax = 10'000;  // Of one kind; no site has as many.

// One object of an answer.  Every field is there, of its type, and there are no others.
class Row {
 public:
  Row(const Json& json, std::string place, Mistakes& mistakes)
      : json_(json), place_(std::move(place)), mistakes_(mistakes) {
    if (!json_.is_object()) odd("is not an object");
  }
  ~Row() {
    if (!json_.is_object()) return;
    for (const auto& [name, value] : json_.items()) {
      if (!read_.contains(name)) odd("has a field '" + name + "' that nobody knows");
    }
  }
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;

  std::string text(const char* name, bool may_be_empty = false) {
    const Json* value = field(name);
    if (value == nullptr) return {};
    if (!value->is_string()) {
      odd(fmt::format("has '{}', which is not a text", name));
      return {};
    }
    std::string out = value->get<std::string>();
    if (out.empty() && !may_be_empty) odd(fmt::format("has an empty '{}'", name));
    return out;
  }
  std::uint32_t number(const char* name, std::uint32_t max) {
    const Json* value = field(name);
    if (value == nullptr) return 0;
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() > max) {
      odd(fmt::format("has '{}', which is not a number from 0 to {}", name, max));
      return 0;
    }
    return value->get<std::uint32_t>();
  }
  std::vector<std::string> texts(const char* name) {
    std::vector<std::string> out;
    for (const Json& one : array(name)) {
      if (one.is_string())
        out.push_back(one.get<std::string>());
      else
        odd(fmt::format("has something else than texts in '{}'", name));
    }
    return out;
  }
  const Json& array(const char* name) {
    static const Json kNone = Json::array();
    const Json* value = field(name);
    if (value == nullptr) return kNone;
    if (value->is_array() && value->size() <= kRowsMax) return *value;
    odd(fmt::format("has '{}', which is not a list", name));
    return kNone;
  }
  const std::string& place() const { return place_; }

 private:
  const Json* field(const char* name) {
    read_.insert(name);
    if (!json_.is_object()) return nullptr;
    const auto found = json_.find(name);
    if (found != json_.end()) return &*found;
    odd(fmt::format("has no '{}'", name));
    return nullptr;
  }
  void odd(const std::string& what) { mistakes_.add(place_ + " " + what); }

  const Json& json_;
  std::string place_;
  Mistakes& mistakes_;
  std::set<std::string> read_;
};

// Calls `read` with each row of the answer `name`.
template <class Read>
void each_row(const Answers& answers, const std::string& name, Mistakes& mistakes,
              const Read& read) {
  const auto answer = answers.find(name);
  if (answer == answers.end()) return mistakes.add("no answer about " + name);
  const Json json = Json::parse(answer->second, nullptr, false);
  if (json.is_discarded()) {
    return mistakes.add(
        fmt::format("what it says about {} is not JSON: '{}'", name, answer->second.substr(0, 80)));
  }
  if (!json.is_array() || json.size() > kRowsMax) {
    return mistakes.add("what it says about " + name + " is not a list");
  }
  for (std::size_t i = 0; i < json.size(); ++i) {
    Row row(json[i], fmt::format("{}[{}]", name, i), mistakes);
    read(row);
  }
}

struct CloudRow {
  std::string name;
  std::vector<std::string> host_groups;
  std::vector<std::string> logical_networks;
};
struct HostRow {
  std::string name;
  std::string group;
};
struct PoolRow {
  std::string name;
  std::string network;
  std::string logical_network;
  std::string cidr;
  std::uint32_t vlan = 0;
  std::string from;
  std::string to;
};
constexpr std::uint32_t kVlanMax = 4094;

bool is_within(const std::string& group, const std::string& above) {
  return group == above || group.starts_with(above + "\\");
}

void read_networks(const Answers& answers, Mistakes& mistakes, msg::SiteDefinition& site) {
  each_row(answers, "networks", mistakes, [&](Row& row) {
    msg::Network network{.name = row.text("name"),
                         .logical_network = row.text("logicalNetwork"),
                         .host_network = {},
                         .subnets = {}};
    const Json& subnets = row.array("subnets");
    for (std::size_t i = 0; i < subnets.size(); ++i) {
      Row one(subnets[i], fmt::format("{}.subnets[{}]", row.place(), i), mistakes);
      network.subnets.push_back(msg::Subnet{.name = one.text("name"),
                                            .cidr = one.text("cidr"),
                                            .vlan = one.number("vlan", kVlanMax),
                                            .pool_from = {},
                                            .pool_to = {}});
    }
    network.host_network = network.logical_network;
    site.networks.push_back(std::move(network));
  });
}

void join_pool(const PoolRow& pool, msg::Network& network) {
  const auto free = std::ranges::find_if(network.subnets, [&](const msg::Subnet& subnet) {
    return subnet.cidr == pool.cidr && subnet.pool_from.empty();
  });
  if (free != network.subnets.end()) {
    free->pool_from = pool.from;
    free->pool_to = pool.to;
    return;
  }
  network.subnets.push_back(msg::Subnet{.name = pool.name,
                                        .cidr = pool.cidr,
                                        .vlan = pool.vlan,
                                        .pool_from = pool.from,
                                        .pool_to = pool.to});
}

void read_pools(const Answers& answers, Mistakes& mistakes, msg::SiteDefinition& site) {
  each_row(answers, "pools", mistakes, [&](Row& row) {
    const PoolRow pool{.name = row.text("name"),
                       .network = row.text("network", true),
                       .logical_network = row.text("logicalNetwork", true),
                       .cidr = row.text("cidr"),
                       .vlan = row.number("vlan", kVlanMax),
                       .from = row.text("from"),
                       .to = row.text("to")};
    if (pool.network.empty() && pool.logical_network.empty()) {
      return mistakes.add(row.place() + " has neither a network nor a logical network");
    }
    bool joined = false;
    for (msg::Network& network : site.networks) {
      const bool is_its = pool.network.empty() ? network.logical_network == pool.logical_network
                                               : network.name == pool.network;
      if (is_its) join_pool(pool, network);
      joined |= is_its;
    }
    // Logical networks that no VM network uses have pools, too.
    if (!joined && !pool.network.empty()) {
      mistakes.add(
          fmt::format("{} names network '{}', which VMM does not list", row.place(), pool.network));
    }
  });
}

void read_clouds(const Answers& answers, Mistakes& mistakes, msg::SiteDefinition& site) {
  each_row(answers, "clouds", mistakes, [&](Row& row) {
    const CloudRow read{.name = row.text("name"),
                        .host_groups = row.texts("hostGroups"),
                        .logical_networks = row.texts("logicalNetworks")};
    msg::Cloud cloud{.name = read.name, .host_groups = read.host_groups, .networks = {}};
    for (const msg::Network& network : site.networks) {
      if (std::ranges::find(read.logical_networks, network.logical_network) !=
          read.logical_networks.end()) {
        cloud.networks.push_back(network.name);
      }
    }
    site.clouds.push_back(std::move(cloud));
  });
}

void read_hosts(const Answers& answers, Mistakes& mistakes, msg::SiteDefinition& site) {
  std::vector<HostRow> hosts;
  each_row(answers, "hosts", mistakes, [&](Row& row) {
    hosts.push_back({.name = row.text("name"), .group = row.text("group")});
  });
  each_row(answers, "host_groups", mistakes, [&](Row& row) {
    site.host_groups.push_back(msg::HostGroup{.name = row.text("path"), .hosts = {}});
  });
  for (const HostRow& host : hosts) {
    bool placed = false;
    for (msg::HostGroup& group : site.host_groups) {
      if (!is_within(host.group, group.name)) continue;
      group.hosts.push_back(host.name);
      placed = true;
    }
    if (!placed) {
      mistakes.add(fmt::format("host '{}' is in host group '{}', which VMM does not list",
                               host.name, host.group));
    }
  }
}

void apply(const Mapping& mapping, const std::set<std::string>& classifications, Mistakes& mistakes,
           msg::SiteDefinition& site) {
  for (const auto& [name, host_network] : mapping.host_networks) {
    const auto network = std::ranges::find(site.networks, name, &msg::Network::name);
    if (network != site.networks.end()) {
      network->host_network = host_network;
    } else {
      mistakes.add("the site file maps network '" + name + "', which VMM does not have");
    }
  }
  for (const auto& [name, path] : mapping.storage_paths) {
    if (classifications.contains(name)) {
      site.storage.push_back(msg::StorageClass{.name = name, .path = path});
    } else {
      mistakes.add("the site file maps storage class '" + name +
                   "', which VMM does not have as a classification");
    }
  }
}

}  // namespace

Result<Mapping> mapping_from_toml(std::string_view text, const std::string& name) {
  FARSIDE_ASSIGN(auto config, Config::from_text(text, name));
  Mapping mapping;
  Mistakes mistakes{.source = name, .all = {}};
  const auto finish = [&](Config& table) {
    if (const auto finished = table.finish(); !finished) {
      mistakes.all += (mistakes.all.empty() ? "" : "\n") + finished.error().what;
    }
  };
  const auto read = [&](std::string_view kind, std::string_view to, auto& pairs) {
    for (auto& table : config.tables(kind)) {
      const std::string from = table.required_text("name");
      const std::string value = table.required_text(to);
      finish(table);
      if (!pairs.emplace(from, value).second) {
        mistakes.add(fmt::format("two {}s are named '{}'", kind, from));
      }
    }
  };
  read("network", "host_network", mapping.host_networks);
  read("storage_class", "path", mapping.storage_paths);
  finish(config);
  if (mistakes.all.empty()) return mapping;
  return fail(ErrorCode::kInvalidArgument, mistakes.all,
              "with [vmm] the site file only maps names: [[network]] name, host_network and "
              "[[storage_class]] name, path");
}

Result<msg::SiteDefinition> site_from_answers(const Answers& answers, const Mapping& mapping) {
  msg::SiteDefinition site;
  Mistakes mistakes{.source = "VMM", .all = {}};
  read_networks(answers, mistakes, site);
  read_pools(answers, mistakes, site);
  read_clouds(answers, mistakes, site);
  read_hosts(answers, mistakes, site);
  std::set<std::string> classifications;
  each_row(answers, "classifications", mistakes,
           [&](Row& row) { classifications.insert(row.text("name")); });
  if (!mistakes.all.empty()) {
    return fail(ErrorCode::kCorrupt, mistakes.all,
                "see whether the VMM server runs a release that is supported");
  }
  apply(mapping, classifications, mistakes, site);
  check_names(site, mistakes);
  for (const msg::Network& network : site.networks) {
    for (const msg::Subnet& subnet : network.subnets) check_subnet(subnet, mistakes);
  }
  if (!mistakes.all.empty()) {
    return fail(ErrorCode::kInvalidArgument, mistakes.all,
                "correct the names in VMM or in the site file; the last good definition stays in "
                "force");
  }
  return site;
}

}  // namespace farside::provider::vmm
