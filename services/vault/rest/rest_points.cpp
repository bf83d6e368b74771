// Recovery points of a protected item, and how a VM would be built from one.
#include <charconv>

#include "common/flow/step.h"
#include "services/vault/rest/json.h"

namespace farside::vault {
namespace {

using msg::ItemState;

Json point_json(const std::string& path, const msg::RecoveryPoint& point) {
  const auto name = std::to_string(point.seq);
  return resource(
      path + "/recoveryPoints/" + name, name,
      "replicationFabrics/replicationProtectionContainers/replicationProtectedItems/"
      "recoveryPoints",
      Json{{"recoveryPointTime", arm_time(point.captured_at)},
           {"recoveryPointType", point.app_consistent ? "AppConsistent" : "CrashConsistent"},
           {"farside",
            {{"bytes", point.bytes},
             {"epoch", point.epoch},
             {"arrivedTime", arm_time(point.arrived_at)},
             {"claimedTime",
              point.claimed_at == 0 ? Json(nullptr) : Json(arm_time(point.claimed_at))}}}});
}

}  // namespace

Result<std::uint64_t> point_from(const std::string& text) {
  if (text.empty() || text == "latest" || text == "Latest") return 0;
  std::uint64_t seq = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seq);
  if (error == std::errc{} && end == text.data() + text.size() && seq > 0) return seq;
  return fail(ErrorCode::kInvalidArgument, "'" + text + "' is not a recovery point",
              "list them with `farside points`");
}

Reply Rest::plan_item(Call& call) {
  FARSIDE_ASSIGN(const auto item, item_of(call));
  if (item.target_agent.empty() || item.state == ItemState::committed) {
    return fail(ErrorCode::kConflict, "VM '" + item.vm_name + "' has no replica to build it from",
                "a plan exists from protection until a failover is committed");
  }
  return ask(call, identity::neighbour_of(item.target_agent), item.target_agent,
             reactor::message(
                 msg::ProveReplica{.item = item.id, .vm_name = item.vm_name, .plan_only = true}),
             [](const msg::Message& reply, reactor::Effects&) -> Reply {
               FARSIDE_ASSIGN(const auto proven, flow::expect<msg::ReplicaProven>(reply));
               Json out = Json::array();
               for (const auto& row : proven.plan) {
                 out.push_back(Json{{"what", row.what},
                                    {"rule", msg::to_text(row.rule)},
                                    {"source", row.source},
                                    {"target", row.target},
                                    {"note", row.note}});
               }
               return listing(std::move(out));
             });
}

Reply Rest::list_points(Call& call) {
  FARSIDE_ASSIGN(const auto item, item_of(call));
  if (item.target_agent.empty() || item.state == ItemState::committed) return listing({});
  return ask(call, identity::neighbour_of(item.target_agent), item.target_agent,
             reactor::message(msg::ListPoints{.item = item.id}),
             [path = item_path(call, item)](const msg::Message& reply, reactor::Effects&) -> Reply {
               FARSIDE_ASSIGN(const auto points, flow::expect<msg::Points>(reply));
               Json out = Json::array();
               for (const auto& point : points.points) out.push_back(point_json(path, point));
               return listing(std::move(out));
             });
}

Reply Rest::get_point(Call& call) {
  FARSIDE_ASSIGN(const auto item, item_of(call));
  FARSIDE_ASSIGN(const auto seq, point_from(call["point"]));
  if (item.target_agent.empty() || item.state == ItemState::committed) {
    return fail(ErrorCode::kNotFound, "VM '" + item.vm_name + "' has no recovery points",
                "they exist from initial replication until a failover is committed");
  }
  return ask(
      call, identity::neighbour_of(item.target_agent), item.target_agent,
      reactor::message(msg::ListPoints{.item = item.id}),
      [path = item_path(call, item), seq](const msg::Message& reply, reactor::Effects&) -> Reply {
        FARSIDE_ASSIGN(const auto points, flow::expect<msg::Points>(reply));
        for (const auto& point : points.points) {
          if (point.seq == seq) return ok(point_json(path, point));
        }
        return fail(ErrorCode::kNotFound, "no recovery point " + std::to_string(seq),
                    "it has been thinned or folded; list them with `farside points`");
      });
}

}  // namespace farside::vault
