#include "services/provider/report_room.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace farside::provider {

Status ReportRoom::take(const msg::HostEntry& entry) {
  const std::size_t bytes = msg::encode(entry).size();
  if (bytes > kReportMax) {
    return fail(
        ErrorCode::kTooLarge,
        fmt::format("its agent's report has more than the {} KiB of a host", kReportMax >> 10U),
        "what it told before stands; look at that host, and at who holds its agent's key");
  }
  bytes_[entry.principal] = bytes;
  return {};
}

std::size_t ReportRoom::bytes_of(const std::string& principal) const {
  const auto found = bytes_.find(principal);
  return found == bytes_.end() ? 0 : found->second;
}

void ReportRoom::fit(msg::Inventory& inventory) {
  std::vector<std::pair<std::size_t, msg::HostEntry*>> hosts;
  auto entries = std::exchange(inventory.hosts, {});
  std::size_t total = msg::encode(inventory).size();
  inventory.hosts = std::move(entries);
  for (auto& entry : inventory.hosts) {
    auto [known, is_new] = bytes_.try_emplace(entry.principal, 0);
    if (is_new) known->second = msg::encode(entry).size();  // Stored before this process began.
    hosts.emplace_back(known->second, &entry);
    total += known->second;
  }
  if (total <= kInventoryMax) return;
  std::ranges::sort(hosts, std::greater<>(), &std::pair<std::size_t, msg::HostEntry*>::first);
  for (auto& [bytes, entry] : hosts) {
    if (total <= kInventoryMax) return;
    total -= bytes;
    entry->host = msg::HostState{
        .name = entry->host.name,
        .public_key = entry->host.public_key,
        .problem = fmt::format("its {} VMs, {} KiB of report, have no room in the site's inventory",
                               entry->vms.size(), bytes >> 10U)};
    entry->vms.clear();
  }
}

}  // namespace farside::provider
