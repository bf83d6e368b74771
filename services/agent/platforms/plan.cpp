#include "services/agent/platforms/plan.h"

#include <fmt/core.h>

namespace farside::agent {

std::vector<msg::PlanRow> plan_of_shape(const msg::Vm& shape) {
  const auto kept = [](std::string what, std::string value) {
    return msg::PlanRow{
        .what = std::move(what), .rule = msg::PlanRule::kept, .source = value, .target = value};
  };
  std::vector<msg::PlanRow> rows{
      kept("memory", fmt::format("{} MiB", shape.memory_mib)),
      kept("processors", std::to_string(shape.processors)),
      kept("firmware", shape.generation == 2 ? "UEFI" : "BIOS"),
  };
  for (const msg::Disk& disk : shape.disks) {
    rows.push_back(kept("disk " + disk.name, fmt::format("{} bytes", disk.bytes)));
  }
  for (const msg::Nic& nic : shape.nics) {
    rows.push_back({.what = "network card " + nic.mac,
                    .rule = msg::PlanRule::mapped,
                    .source = {},
                    .target = nic.network.empty() ? "no link" : nic.network});
  }
  return rows;
}

}  // namespace farside::agent
