#include "services/agent/platforms/hyperv/switches.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

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
    const std::string_view digits = spec.substr(at + kVlan.size());
    const char* const end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, port.vlan);
    if (error != std::errc() || stop != end || port.vlan == 0 || port.vlan > kVlanMax) {
      return std::nullopt;
    }
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

Result<Port> Switches::port_of(const std::string& network,
                               const std::vector<std::string>& switches) const {
  if (network.empty()) return Port{};
  const auto entry = networks_.find(network);
  const Port port = entry != networks_.end() ? entry->second : Port{.switch_name = network};
  if (port.switch_name.empty() || std::ranges::find(switches, port.switch_name) != switches.end()) {
    return port;
  }
  return fail(ErrorCode::kNotFound,
              entry == networks_.end()
                  ? fmt::format("this host has no network '{}'", network)
                  : fmt::format("network '{}' is on switch '{}', which this host does not have",
                                network, port.switch_name),
              "map the VM network to one that exists on the target host");
}

std::string Switches::network_of(const Port& port) const {
  if (port.switch_name.empty()) return {};
  for (const auto& [name, each] : networks_) {
    if (each == port) return name;
  }
  return port.switch_name;
}

}  // namespace farside::agent::hyperv
