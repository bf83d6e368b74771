#include "services/provider/site.h"

#include <fstream>
#include <sstream>

#include "common/base/config.h"
#include "services/provider/site_rules.h"

namespace farside::provider {
namespace {

msg::Subnet subnet_from(Config& table, Mistakes& mistakes) {
  msg::Subnet subnet{.name = table.required_text("name"),
                     .cidr = table.required_text("cidr"),
                     .vlan = static_cast<std::uint32_t>(table.integer("vlan", 0, 0, 4094)),
                     .pool_from = table.text("pool_from", ""),
                     .pool_to = table.text("pool_to", "")};
  check_subnet(subnet, mistakes);
  return subnet;
}

}  // namespace

Result<std::string> text_of_site_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) {
    return fail(ErrorCode::kNotFound, "site file '" + path + "' cannot be read",
                "check site_file in the configuration");
  }
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

Result<msg::SiteDefinition> site_from_toml(std::string_view text, const std::string& name) {
  FARSIDE_ASSIGN(auto config, Config::from_text(text, name));
  msg::SiteDefinition site;
  Mistakes mistakes{.source = name, .all = {}};
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

  check_names(site, mistakes);
  if (!mistakes.all.empty()) {
    return fail(ErrorCode::kInvalidArgument, mistakes.all,
                "correct the site file; the last good definition stays in force");
  }
  return site;
}

Result<msg::SiteDefinition> SiteFile::read() {
  FARSIDE_ASSIGN(const std::string text, text_of_site_file(path_));
  return site_from_toml(text, path_);
}

}  // namespace farside::provider
