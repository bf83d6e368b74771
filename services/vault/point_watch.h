// When the newest recovery point of each item arrived, and which items have missed their RPO.
//
// Missed: no point has arrived for five intervals of the item's policy, at least a minute.  Time
// in which none is due does not count: before initial replication has ended, while an operator has
// paused it, and while a failover is under way.
// The vault's own clock decides, so that it works with agents that are silent: what a target says
// of the arrival counts only between the vault's last look and this one.
// Owns: column "newest_point", to the minute, so that a restart of the vault forgets nothing;
// agents have half a minute then to tell what arrived meanwhile. Thread: the reactor's.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/reactor/effects.h"
#include "services/vault/catalog.h"

namespace farside::vault {

class PointWatch final {
 public:
  void start(const store::Reader& store, Time now);

  enum class Side { source, target };
  // One of the two agents tells of the newest point it knows.
  void on_report(const std::string& item, Side side, const msg::RecoveryPoint& newest, Time now);

  // Every few seconds, with all items there are: writes `catalog.live.points`.
  void check(const std::vector<msg::ProtectedItem>& items, Catalog& catalog,
             reactor::Effects& effects);

 private:
  struct Told {  // By one side.
    std::uint64_t seq = 0;
    std::int64_t at = 0;  // By our clock.
  };
  struct Known {
    std::int64_t arrived_at = 0;
    std::int64_t saved_at = 0;  // As it is in the store.
    std::int64_t idle_at = 0;   // When no point was due, last.
    Told source;
    Told target;
  };

  std::int64_t started_at_ = 0;
  store::Table<msg::RecoveryPoint> saved_{"newest_point"};
  std::map<std::string, Known> known_;  // By item.
};

}  // namespace farside::vault
