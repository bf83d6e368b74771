#include "services/agent/platforms/libvirt/networks.h"

#include <fmt/core.h>

#include <string_view>

namespace farside::agent::libvirt {
namespace {

constexpr std::string_view kBridge = "bridge:";
constexpr std::string_view kNetwork = "network:";
constexpr std::string_view kUser = "user";
constexpr std::string_view kIsolated = "isolated";

bool is_named(const std::string& spec, std::string_view prefix) {
  return spec.starts_with(prefix) && spec.size() > prefix.size();
}

}  // namespace

Result<Networks> Networks::from_options(const std::map<std::string, std::string>& options) {
  for (const auto& [name, spec] : options) {
    const bool is_valid =
        is_named(spec, kBridge) || is_named(spec, kNetwork) || spec == kUser || spec == kIsolated;
    if (name.empty() || !is_valid) {
      return fail(ErrorCode::kInvalidArgument, fmt::format("network '{}' = '{}'", name, spec),
                  "write bridge:NAME, network:NAME, user or isolated");
    }
  }
  Networks networks;
  networks.networks_ = options;
  return networks;
}

void Networks::add_libvirt_network(const std::string& name) {
  networks_.emplace(name, std::string(kNetwork) + name);
}

std::vector<std::string> Networks::names() const {
  std::vector<std::string> names;
  for (const auto& [name, spec] : networks_) names.push_back(name);
  return names;
}

Result<Networks::Link> Networks::link(const std::string& network) const {
  // A card stays in its place even without a network, so that the guest sees the same hardware.
  if (network.empty()) return Link{.type = "user", .source = {}, .is_up = false};
  const auto found = networks_.find(network);
  if (found == networks_.end()) {
    return fail(ErrorCode::kNotFound, fmt::format("this host has no network '{}'", network),
                "map the VM network to one that exists on the target host");
  }
  const std::string& spec = found->second;
  const auto source = [&](const char* attribute, std::string_view prefix) {
    return fmt::format("<source {}='{}'/>", attribute, xml_escape(spec.substr(prefix.size())));
  };
  if (spec.starts_with(kBridge)) {
    return Link{.type = "bridge", .source = source("bridge", kBridge), .is_up = true};
  }
  if (spec.starts_with(kNetwork)) {
    return Link{.type = "network", .source = source("network", kNetwork), .is_up = true};
  }
  return Link{.type = "user", .source = {}, .is_up = spec != kIsolated};
}

Result<std::string> Networks::card_xml(const std::string& network, const std::string& mac) const {
  FARSIDE_ASSIGN(const Link to, link(network));
  return fmt::format(
      "<interface type='{}'>{}{}<model type='virtio'/><link state='{}'/></interface>", to.type,
      mac.empty() ? "" : fmt::format("<mac address='{}'/>", xml_escape(mac)), to.source,
      to.is_up ? "up" : "down");
}

std::string Networks::network_of(const XmlNode& card) const {
  const std::string type = card.attribute("type");
  const XmlNode source = card.child("source");
  std::string spec = type;
  if (type == "bridge") spec = std::string(kBridge) + source.attribute("bridge");
  if (type == "network") spec = std::string(kNetwork) + source.attribute("network");
  if (type == "user" && card.child("link").attribute("state") == "down") spec = kIsolated;
  for (const auto& [name, each] : networks_) {
    if (each == spec) return name;
  }
  return "";
}

}  // namespace farside::agent::libvirt
