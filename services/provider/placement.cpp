#include "services/provider/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>

namespace farside::provider {
namespace {

constexpr std::uint64_t kMib = 1U << 20U;
constexpr std::uint64_t kEverything = std::numeric_limits<std::uint64_t>::max();

template <class Row>
const Row* named(const std::vector<Row>& rows, const std::string& name) {
  const auto found = std::ranges::find_if(rows, [&](const Row& row) { return row.name == name; });
  return found == rows.end() ? nullptr : &*found;
}

template <class T>
bool contains(const std::vector<T>& list, const T& value) {
  return std::ranges::find(list, value) != list.end();
}

struct Need {
  std::uint64_t bytes = 0;
  std::uint64_t memory_mib = 0;
  std::vector<std::string> host_networks;
  std::string path;  // Empty: any.
};

struct Fit {
  std::string path;
  std::uint64_t free_bytes = 0;
};

// The best path of this host, or in `why` the reason that it does not fit.
std::optional<Fit> fit(const msg::HostEntry& entry, const Need& need,
                       const std::vector<msg::Placement>& placed, std::string& why) {
  if (!entry.connected) {
    why = "not connected";
    return std::nullopt;
  }
  if (entry.host.platform.empty() && !entry.host.problem.empty()) {  // Not observed yet.
    why = "is not known: " + entry.host.problem;
    return std::nullopt;
  }
  for (const auto& network : need.host_networks) {
    if (!contains(entry.host.networks, network)) {
      why = "does not have network '" + network + "'";
      return std::nullopt;
    }
  }
  std::uint64_t promised_mib = 0;
  std::uint64_t promised_bytes = 0;
  for (const auto& other : placed) {
    if (other.agent != entry.principal) continue;
    promised_mib += other.memory_mib;
    promised_bytes += other.bytes;
  }
  if (promised_mib + need.memory_mib > entry.host.memory_mib) {
    why = fmt::format("has {} MiB of memory, {} of them promised, {} needed", entry.host.memory_mib,
                      promised_mib, need.memory_mib);
    return std::nullopt;
  }
  std::optional<Fit> best;
  for (const auto& storage : entry.host.storage) {
    if (!need.path.empty() && storage.path != need.path) continue;
    // Promised bytes may be written already, then they count twice: safe, and small beside disks.
    const auto free = storage.free_bytes > promised_bytes ? storage.free_bytes - promised_bytes : 0;
    if (free < need.bytes) {
      why = fmt::format("'{}' has {} MiB free, {} needed", storage.path, free / kMib,
                        need.bytes / kMib);
      continue;
    }
    if (!best || free > best->free_bytes) best = Fit{.path = storage.path, .free_bytes = free};
  }
  if (!best && why.empty()) why = "has no path '" + need.path + "'";
  return best;
}

}  // namespace

Result<std::string> host_network(const msg::Inventory& inventory, const std::string& network) {
  if (network.empty()) return std::string{};
  if (const auto* found = named(inventory.networks, network)) return found->host_network;
  return fail(ErrorCode::kNotFound,
              "site '" + inventory.site + "' has no VM network '" + network + "'",
              "define it in the site file or change the network mapping");
}

Result<msg::Placement> place(const msg::PlaceReplica& wanted, const msg::Inventory& inventory,
                             const std::vector<msg::Placement>& placed) {
  const auto* cloud = named(inventory.clouds, wanted.cloud);
  if (cloud == nullptr) {
    return fail(ErrorCode::kNotFound,
                "site '" + inventory.site + "' has no cloud '" + wanted.cloud + "'",
                "define it in the site file");
  }
  Need need{.bytes = 0, .memory_mib = wanted.vm.memory_mib, .host_networks = {}, .path = {}};
  for (const auto& disk : wanted.vm.disks) {
    if (__builtin_add_overflow(need.bytes, disk.bytes, &need.bytes)) need.bytes = kEverything;
  }
  for (const auto& network : wanted.networks) {
    FARSIDE_ASSIGN(auto name, host_network(inventory, network));
    need.host_networks.push_back(std::move(name));
  }
  if (!wanted.storage_class.empty()) {
    const auto* storage = named(inventory.storage, wanted.storage_class);
    if (storage == nullptr) {
      return fail(
          ErrorCode::kNotFound,
          "site '" + inventory.site + "' has no storage class '" + wanted.storage_class + "'",
          "define it in the site file");
    }
    need.path = storage->path;
  }

  std::optional<Fit> best;
  std::string agent;
  std::string reasons;
  for (const auto& entry : inventory.hosts) {
    const bool in_cloud = std::ranges::any_of(cloud->host_groups, [&](const auto& group_name) {
      const auto* group = named(inventory.host_groups, group_name);
      return group != nullptr && contains(group->hosts, entry.host.name);
    });
    if (!in_cloud) continue;
    std::string why;
    const auto candidate = fit(entry, need, placed, why);
    if (!candidate) {
      reasons += fmt::format("{}{} {}", reasons.empty() ? "" : "; ", entry.host.name, why);
    } else if (!best || candidate->free_bytes > best->free_bytes) {
      best = candidate;
      agent = entry.principal;
    }
  }
  if (!best) {
    return fail(
        ErrorCode::kNoSpace,
        "no host of cloud '" + wanted.cloud + "' can take the replica of '" + wanted.vm.name +
            "': " + (reasons.empty() ? "none of its host groups has a known host" : reasons),
        "free what is short there, or add a host to the cloud");
  }
  return msg::Placement{.item = wanted.item,
                        .agent = agent,
                        .storage_path = best->path,
                        .bytes = need.bytes,
                        .memory_mib = need.memory_mib};
}

}  // namespace farside::provider
