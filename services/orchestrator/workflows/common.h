// What several workflows ask for in the same words.
#pragma once

#include "common/flow/step.h"

namespace farside::orchestrator {

inline std::string provider_of(const std::string& site) {
  return "provider/" + site;
}

// Names of the target's VM networks for a VM's NICs, by the network mapping; "" = not mapped.
inline std::string mapped_network(const msg::ItemSpec& spec, const std::string& source) {
  for (const auto& pair : spec.networks) {
    if (pair.source == source) return pair.target;
  }
  return {};
}

inline flow::Request record(msg::ItemChange change) {
  return flow::ask("vault", msg::RecordItem{.change = std::move(change)});
}

// A lost source must not keep its items: the vault tells one that comes back later.
inline constexpr std::chrono::seconds kSourceSilence{20};

template <class State>
bool always(const State&) {
  return true;
}

}  // namespace farside::orchestrator
