#include "services/vault/point_watch.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace farside::vault {
namespace {

constexpr Micros kSaveEvery = std::chrono::minutes{1};
constexpr std::int64_t kIntervalsMax = 5;  // As the agents call it critical.
constexpr Micros kAllowedMin = std::chrono::seconds{60};
constexpr Micros kSettles = std::chrono::seconds{30};  // After a start.

bool is_due(const msg::ProtectedItem& item) {
  return item.state == msg::ItemState::protected_ && item.paused_at == 0;
}

// Whoever is protected anew begins with a replica of its own.
bool has_points(const msg::ProtectedItem& item) {
  return item.state != msg::ItemState::enabling && item.state != msg::ItemState::enableFailed;
}

}  // namespace

void PointWatch::start(const store::Reader& store, Time now) {
  started_at_ = now.micros;
  const auto saved = saved_.all(store);
  if (!saved) {
    log::error("newest points unreadable", {{"cause", saved.error()}});
    return;
  }
  for (const auto& [item, point] : *saved) {
    known_[item] = Known{.arrived_at = point.arrived_at, .saved_at = point.arrived_at};
  }
}

void PointWatch::on_report(const std::string& item, Side side, const msg::RecoveryPoint& newest,
                           Time now) {
  if (newest.seq == 0) return;
  auto& known = known_[item];
  auto& told = side == Side::source ? known.source : known.target;
  if (newest.seq != told.seq) {
    const auto claimed = newest.arrived_at != 0 ? newest.arrived_at : newest.captured_at;
    const auto not_before = std::min(told.at, now.micros);
    known.arrived_at = std::max(known.arrived_at, std::clamp(claimed, not_before, now.micros));
  }
  told = Told{.seq = newest.seq, .at = now.micros};
}

void PointWatch::check(const std::vector<msg::ProtectedItem>& items, Catalog& catalog,
                       reactor::Effects& effects) {
  const auto now = effects.now().micros;
  std::map<std::string, std::int64_t> intervals;  // By policy, in microseconds.
  if (const auto policies = Catalog::rows(catalog.policies, effects.store())) {
    for (const auto& policy : *policies) {
      intervals[policy.name] = Micros{std::chrono::seconds{policy.frequency_seconds}}.count();
    }
  }
  const bool has_settled = now - started_at_ >= kSettles.count() || now < started_at_;
  auto before = std::exchange(known_, {});
  catalog.live.points.clear();
  for (const auto& item : items) {
    if (!has_points(item)) {
      if (before.contains(item.id)) saved_.erase(effects.writes, item.id);
      continue;
    }
    auto& known = known_[item.id] = before[item.id];
    // Not heard of yet: its age counts from now.  A clock that was set back makes no point newer.
    if (known.arrived_at == 0 || known.arrived_at > now) known.arrived_at = now;
    if (!is_due(item)) known.idle_at = now;
    if (known.arrived_at - known.saved_at >= kSaveEvery.count() ||
        known.arrived_at < known.saved_at) {
      known.saved_at = known.arrived_at;
      saved_.put(effects.writes, item.id, msg::RecoveryPoint{.arrived_at = known.arrived_at});
    }
    const auto interval = intervals.contains(item.policy) ? intervals.at(item.policy) : 0;
    const auto allowed = std::max(kIntervalsMax * interval, kAllowedMin.count());
    const auto since = std::max(known.arrived_at, std::min(known.idle_at, now));
    catalog.live.points[item.id] = Freshness{.arrived_at = known.arrived_at,
                                             .interval = interval,
                                             .allowed = allowed,
                                             .is_missed = has_settled && now - since > allowed};
    before.erase(item.id);
  }
  for (const auto& [gone, known] : before) {
    if (known.saved_at != 0) saved_.erase(effects.writes, gone);
  }
}

}  // namespace farside::vault
