#include "services/agent/platforms/hyperv/switches.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "common/wsman/value.h"

namespace farside::agent::hyperv {
namespace {

constexpr std::string_view kSwitch = "switch:";
constexpr std::string_view kVlan = ",vlan:";
constexpr std::uint32_t kVlanMax = 4094;

std::optional<Port> parse(std::string_view spec) {
  if (spec == "isolated") return Port{};
  if (!spec.starts_with(kSwitch)) return std::nullopt;
  spec.remove_prefix(kSwitch.size());
  Port port;
  if (const std::size_t at = spec.rfind(kVlan); at != std::string_view::npos) {
    const auto vlan = wsman::parse_number(spec.substr(at + kVlan.size()));
    if (!vlan || *vlan == 0 || *vlan > kVlanMax) return std::nullopt;
    port.vlan = static_cast<std::uint32_t>(*vlan);
    spec = spec.substr(0, at);
  }
  port.switch_name = spec;
  return spec.empty() ? std::nullopt : std::optional(port);
}

}  // namespace

Result<Switches> Switches::from_options(const std::map<std::string, std::string>& options) {
  Switches switches;
  for (const auto& [name, spec] : options) {
    const auto port = parse(spec);
    if (name.empty() || !port) {
      return fail(ErrorCode::kInvalidArgument, fmt::format("network '{}' = '{}'", name, spec),
                  "write switch:NAME, switch:NAME,vlan:NUMBER or isolated");
    }
    switches.networks_[name] = *port;
  }
  return switches;
}

std::vector<std::string> Switches::names(const std::vector<std::string>& switches) const {
  std::vector<std::string> names;
  for (const auto& [name, port] : networks_) names.push_back(name);
  for (const std::string& name : switches) {
    if (!networks_.contains(name)) names.push_back(name);
  }
  return names;
}

Result<std::optional<Port>> Switches::port_of(const std::string& network,
                                              const std::vector<std::string>& switches) const {
  if (network.empty()) return std::nullopt;
  const auto entry = networks_.find(network);
  Port port;
  if (entry != networks_.end()) {
    port = entry->second;
  } else {
    port.switch_name = network;
  }
  const bool is_there = std::ranges::find(switches, port.switch_name) != switches.end();
  if (port.switch_name.empty() || is_there) return port;
  return fail(ErrorCode::kNotFound,
              entry == networks_.end()
                  ? fmt::format("this host has no network '{}'", network)
                  : fmt::format("network '{}' is on switch '{}', which this host does not have",
                                network, port.switch_name),
              "map the VM network to one that exists on the target host");
}

std::string Switches::network_of(const Port& port) const {
  for (const auto& [name, each] : networks_) {
    if (each == port) return name;
  }
  return port.switch_name;
}

}  // namespace farside::agent::hyperv
