// Protected items, what may be done with them, and their recovery points.
#include "common/base/log.h"
#include "common/flow/fault.h"
#include "common/flow/step.h"
#include "services/vault/front_door/uri.h"
#include "services/vault/item_health.h"
#include "services/vault/rest/json.h"

namespace farside::vault {
namespace {

using msg::ItemState;

struct StateWords {
  std::string_view state;
  std::string_view description;
};

StateWords words(ItemState state) {
  switch (state) {
    case ItemState::enabling:
      return {"EnablingProtection", "Enabling protection"};
    case ItemState::initialReplication:
      return {"InitialReplicationInProgress", "Initial replication in progress"};
    case ItemState::protected_:
      return {"Protected", "Protected"};
    case ItemState::enableFailed:
      return {"EnablingFailed", "Enabling protection failed"};
    case ItemState::failingOver:
      return {"PlannedFailoverInProgress", "Planned failover in progress"};
    case ItemState::commitRequired:
      return {"PlannedFailoverCommitRequired", "Planned failover finished"};
    case ItemState::committed:
      return {"FailoverCommitted", "Failover committed"};
    case ItemState::disabling:
      return {"DisablingProtection", "Disabling protection"};
    case ItemState::failoverFailed:
      return {"PlannedFailoverFailed", "Planned failover failed"};
    case ItemState::disabled:
      return {"Unprotected", "Unprotected"};
  }
  return {"Unknown", "Unknown"};
}

Json allowed_operations(const msg::ProtectedItem& item) {
  Json out = Json::array();
  if (!item.job.empty()) return out;
  if (item.state == ItemState::protected_) {
    if (item.test_vm.empty()) {
      out.push_back("PlannedFailover");
      out.push_back("TestFailover");
    } else {
      out.push_back("TestFailoverCleanup");
    }
    out.push_back("RepairReplication");
  }
  // Once more, to let the replica go sooner.
  if (item.state == ItemState::commitRequired || item.state == ItemState::committed) {
    out.push_back("Commit");
  }
  if (item.test_vm.empty()) out.push_back("DisableProtection");
  return out;
}

// Errors: kConflict, naming the state and what is allowed instead.
Status allow(const msg::ProtectedItem& item, std::string_view operation) {
  const auto allowed = allowed_operations(item);
  if (std::ranges::find(allowed, Json(operation)) != allowed.end()) return {};
  std::string names;
  for (const auto& name : allowed) {
    names += (names.empty() ? "" : ", ") + name.get<std::string>();
  }
  const auto state = item.job.empty() ? std::string(words(item.state).description)
                                      : "busy with job '" + item.job + "'";
  return fail(ErrorCode::kConflict,
              "VM '" + item.vm_name + "' is " + state +
                  (item.test_vm.empty() ? "" : " with a test failover") + ": " +
                  std::string(operation) + " is not allowed",
              names.empty()
                  ? "wait until its job has ended; one that waits for an operator goes on with "
                    "`farside jobs restart`, and a commit or an end of protection is "
                    "given up with `farside jobs cancel`"
                  : "allowed now: " + names);
}

Json health_errors(const ItemHealth& health) {
  Json out = Json::array();
  for (const auto& reason : health.reasons) {
    out.push_back(
        Json{{"errorSource", reason.is_at_target ? "ReplicationUnitProviderErrorOnRecovery"
                                                 : "ReplicationUnitProviderErrorOnPrimary"},
             {"errorLevel", reason.is_critical ? "Error" : "Warning"},
             {"errorCode", "67501"},
             {"errorMessage", reason.fault.what},
             {"possibleCauses", to_text(static_cast<ErrorCode>(reason.fault.code))},
             {"recommendedAction", advice_of(flow::to_error(reason.fault))},
             {"farside", {{"reason", to_text(reason.kind)}}}});
  }
  return out;
}

// A drill counts as far as it was looked at: a VM that boots into nothing is none.
std::string drill_words(const msg::ProtectedItem& item) {
  if (item.drilled_at == 0) return {};
  return item.drill_sign.empty() ? "Succeeded, not confirmed" : "Succeeded: " + item.drill_sign;
}

}  // namespace

Json Rest::item_json(const Call& call, const msg::ProtectedItem& item) const {
  const auto source = catalog_.live.sources.find(item.id);
  const auto replica = catalog_.live.replicas.find(item.id);
  std::optional<msg::ReplicationStatus> status;
  if (source != catalog_.live.sources.end()) status = source->second;
  const auto newest = status ? status->newest : msg::RecoveryPoint{};
  const auto health = health_of(item, catalog_.live);
  std::uint64_t percent = newest.seq > 0 ? 100 : 0;
  if (status && newest.seq == 0 && status->bytes_total > 0) {
    percent = 100 * status->bytes_done / status->bytes_total;
  }

  Json farside{{"id", item.id},
               {"epoch", item.epoch},
               {"vmId", item.vm},
               {"sourceAgent", item.source_agent},
               {"targetAgent", item.target_agent},
               {"replicaVmId", item.replica_vm},
               {"testVmId", item.test_vm},
               {"testPoint", item.test_seq},
               {"drillBootMillis", item.drill_boot_millis},
               {"drillSign", item.drill_sign},
               {"drill", drill_words(item)},
               {"pausedAt", item.paused_at == 0 ? Json(nullptr) : Json(arm_time(item.paused_at))},
               {"failoverPoint", item.failover_seq},
               {"notes", item.notes},
               {"health", health_text(health.health)}};
  if (const auto point = catalog_.live.points.find(item.id); point != catalog_.live.points.end()) {
    farside["newestPointArrived"] = arm_time(point->second.arrived_at);
    farside["rpoMissed"] = point->second.is_missed;
  }
  if (status) {
    farside["phase"] = msg::to_text(status->phase);
    farside["bytesDone"] = status->bytes_done;
    farside["bytesTotal"] = status->bytes_total;
    farside["newestPointSeq"] = newest.seq;
    farside["newestPointTime"] =
        newest.seq == 0 ? Json(nullptr) : Json(arm_time(newest.captured_at));
    farside["wireBytes"] = status->wire_bytes_total;
    farside["changedBytes"] = status->changed_bytes_total;
    farside["initialSeconds"] = status->initial_seconds;
    farside["cycles"] = status->cycles;
    farside["resyncs"] = status->resyncs;
    farside["fullCopies"] = status->full_copies;
    farside["retryAt"] = status->retry_at == 0 ? Json(nullptr) : Json(arm_time(status->retry_at));
    farside["fault"] = status->fault
                           ? Json{{"what", status->fault->what}, {"advice", status->fault->advice}}
                           : Json(nullptr);
  }
  if (replica != catalog_.live.replicas.end()) {
    farside["points"] = replica->second.points;
    farside["journalBytes"] = replica->second.journal_bytes;
    farside["baseBytes"] = replica->second.base_bytes;
    farside["oldestPointTime"] = arm_time(replica->second.oldest.captured_at);
    farside["keptUntil"] = replica->second.kept_until == 0
                               ? Json(nullptr)
                               : Json(arm_time(replica->second.kept_until));
    farside["damagedBlocks"] = replica->second.damaged;
    farside["provenAt"] =
        replica->second.proven_at == 0 ? Json(nullptr) : Json(arm_time(replica->second.proven_at));
    const auto& proof_fault = replica->second.proof_fault;
    farside["proofFault"] = proof_fault
                                ? Json{{"what", proof_fault->what}, {"advice", proof_fault->advice}}
                                : Json(nullptr);
  }

  const auto job = item.job.empty()
                       ? std::nullopt
                       : catalog_.jobs.get(call.effects.store(), item.job).value_or(std::nullopt);
  Json scenario{{"scenarioName", "None"},
                {"jobId", job_path(call, "None")},
                {"startTime", "1753-01-01T01:01:01Z"}};
  if (job) {
    scenario = Json{{"scenarioName", scenario_of(job->flow.workflow).scenario},
                    {"jobId", job_path(call, item.job)},
                    {"startTime", arm_time(job->flow.started_at)}};
  }
  const auto test_state = item.test_vm.empty() ? "None" : "WaitingForCleanup";
  return resource(
      item_path(call, item), item.name,
      "replicationFabrics/replicationProtectionContainers/replicationProtectedItems",
      Json{{"friendlyName", item.vm_name},
           {"protectedItemType", "HyperVVirtualMachine"},
           {"protectableItemId", container_path(call, item.source_site, item.source_cloud) +
                                     "/replicationProtectableItems/" + item.vm},
           {"primaryFabricFriendlyName", item.source_site},
           {"primaryFabricProvider", "VmmFabric"},
           {"recoveryFabricFriendlyName", item.target_site},
           {"recoveryFabricId", fabric_path(call, item.target_site)},
           {"primaryProtectionContainerFriendlyName", item.source_cloud},
           {"recoveryProtectionContainerFriendlyName", item.target_cloud},
           {"recoveryContainerId", container_path(call, item.target_site, item.target_cloud)},
           {"protectionState", words(item.state).state},
           {"protectionStateDescription", words(item.state).description},
           {"activeLocation", item.active_location},
           {"testFailoverState", test_state},
           {"testFailoverStateDescription", item.test_vm.empty() ? "" : "Clean-up is pending"},
           {"allowedOperations", allowed_operations(item)},
           {"replicationHealth", health_text(health.health)},
           {"failoverHealth", "Normal"},
           {"healthErrors", health_errors(health)},
           {"policyId", policy_path(call, item.policy)},
           {"policyFriendlyName", item.policy},
           {"lastSuccessfulFailoverTime",
            item.failed_over_at == 0 ? Json(nullptr) : Json(arm_time(item.failed_over_at))},
           {"lastSuccessfulTestFailoverTime",
            item.drilled_at == 0 ? Json(nullptr) : Json(arm_time(item.drilled_at))},
           {"currentScenario", std::move(scenario)},
           {"failoverRecoveryPointId",
            item.failover_seq == 0
                ? ""
                : item_path(call, item) + "/recoveryPoints/" + std::to_string(item.failover_seq)},
           {"providerSpecificDetails",
            {{"instanceType", "HyperVReplica2012R2"},
             {"vmId", item.vm},
             {"lastReplicatedTime", arm_time(newest.captured_at)},
             {"vmProtectionState", words(item.state).state},
             {"vmProtectionStateDescription", words(item.state).description},
             {"initialReplicationDetails",
              {{"initialReplicationType", "OverNetwork"},
               {"initialReplicationProgressPercentage", std::to_string(percent)}}}}},
           {"farside", std::move(farside)}});
}

Result<msg::ProtectedItem> Rest::item_of(Call& call) const {
  FARSIDE_ASSIGN(auto item, catalog_.item_named(call.effects.store(), call["fabric"], call["cloud"],
                                                call["item"]));
  if (item) return std::move(*item);
  return fail(ErrorCode::kNotFound,
              "no protected item '" + call["item"] + "' in cloud '" + call["cloud"] +
                  "' of site '" + call["fabric"] + "'",
              "list them with `farside watch`");
}

Reply Rest::list_items(Call& call) {
  FARSIDE_ASSIGN(const auto all, Catalog::rows(catalog_.items, call.effects.store()));
  const auto fabric = call.values.find("fabric");
  Json out = Json::array();
  for (const auto& item : all) {
    if (fabric != call.values.end() &&
        (item.source_site != fabric->second || item.source_cloud != call["cloud"])) {
      continue;
    }
    out.push_back(item_json(call, item));
  }
  return listing(std::move(out));
}

Reply Rest::get_item(Call& call) {
  FARSIDE_ASSIGN(const auto item, item_of(call));
  return ok(item_json(call, item));
}

Reply Rest::put_item(Call& call) {
  const auto& store = call.effects.store();
  FARSIDE_TRY(identity::check_name("protected item", call["item"]));
  const auto vm_id =
      segment_after(call.text({"properties", "protectableItemId"}), "replicationProtectableItems");
  const auto policy = segment_after(call.text({"properties", "policyId"}), "replicationPolicies");
  if (!vm_id || !policy) {
    return fail(ErrorCode::kInvalidArgument,
                "protected item '" + call["item"] + "' needs a VM and a policy",
                "send properties.protectableItemId and properties.policyId");
  }
  FARSIDE_ASSIGN(const auto site, catalog_.site(store, call["fabric"]));
  FARSIDE_TRY(catalog_.policy(store, *policy));
  const auto vms = Catalog::vms_of_cloud(site, call["cloud"]);
  const auto vm = std::ranges::find_if(vms, [&](const auto& v) { return v.vm.id == *vm_id; });
  if (vm == vms.end()) {
    return fail(
        ErrorCode::kNotFound,
        "no VM '" + *vm_id + "' in cloud '" + call["cloud"] + "' of site '" + site.site + "'",
        "list them with `farside vm list`");
  }
  if (vm->vm.fenced) {
    return fail(ErrorCode::kConflict,
                "VM '" + vm->vm.name + "' of site '" + site.site + "' is fenced: it is a copy of " +
                    "the time of its failover, and the VM is active at " +
                    (vm->vm.active_at.empty() ? "the other site" : vm->vm.active_at),
                "protect it there; remove this copy when nobody needs it any more");
  }
  FARSIDE_ASSIGN(const auto maker, catalog_.item_that_made(store, site.site, *vm_id));
  if (maker) {
    return fail(ErrorCode::kConflict,
                "VM '" + vm->vm.name + "' was made by the failover of item '" + maker->vm_name +
                    "' of site '" + maker->source_site + "', which is " +
                    std::string(words(maker->state).description),
                maker->state == ItemState::committed
                    ? "end that protection with `farside unprotect " + maker->vm_name +
                          "`, then protect the VM here"
                    : "commit that failover with `farside commit " + maker->vm_name +
                          "`, end the protection with `farside unprotect`, then protect it here");
  }
  FARSIDE_ASSIGN(const auto pairs, Catalog::rows(catalog_.pairs, store));
  const auto pair = std::ranges::find_if(pairs, [&](const auto& candidate) {
    return candidate.source_site == site.site && candidate.source_cloud == call["cloud"] &&
           candidate.policy == *policy;
  });
  if (pair == pairs.end()) {
    return fail(ErrorCode::kConflict,
                "cloud '" + call["cloud"] + "' has no pair with policy '" + *policy + "'",
                "create one with `farside pair create`");
  }
  FARSIDE_ASSIGN(const auto present, catalog_.item_of_vm(store, site.site, *vm_id));
  FARSIDE_ASSIGN(const auto named,
                 catalog_.item_named(store, site.site, call["cloud"], call["item"]));
  if (named && named->vm != *vm_id) {
    return fail(ErrorCode::kAlreadyExists,
                "item '" + call["item"] + "' protects VM '" + named->vm_name + "'",
                "choose another name");
  }
  if (present && present->state != ItemState::enableFailed) {
    return fail(ErrorCode::kAlreadyExists, "VM '" + vm->vm.name + "' is protected already",
                "see `farside watch`");
  }
  msg::ProtectedItem item{.id = present ? present->id : call.effects.fresh_id(),
                          .vm = *vm_id,
                          .vm_name = vm->vm.name,
                          .source_site = site.site,
                          .source_cloud = call["cloud"],
                          .source_agent = vm->agent,
                          .target_site = pair->target_site,
                          .target_cloud = pair->target_cloud,
                          .policy = *policy,
                          .pair = pair->name,
                          .state = ItemState::enabling,
                          .epoch = 1,
                          .active_location = "Primary",
                          .job = present ? present->job : "",
                          .created_at = call.effects.now().micros,
                          .name = call["item"]};
  const auto path = item_path(call, item);
  return started(call, path, std::move(item),
                 {.workflow = "enable_protection", .meanwhile = ItemState::enabling, .input = {}});
}

Reply Rest::remove_item(Call& call) {
  FARSIDE_ASSIGN(auto item, item_of(call));
  FARSIDE_TRY(allow(item, "DisableProtection"));
  FARSIDE_ASSIGN(const auto policy, catalog_.policy(call.effects.store(), item.policy));
  // After a failover the replica is production: it is never deleted with its protection.
  const bool is_replica_idle = item.replica_vm.empty();
  const auto path = item_path(call, item);
  return started(call, path, std::move(item),
                 {.workflow = "disable_protection",
                  .meanwhile = ItemState::disabling,
                  .input = {.delete_replica = is_replica_idle && policy.delete_replica,
                            .force = call.http.method == "DELETE"}});
}

Reply Rest::test_failover(Call& call) {
  FARSIDE_ASSIGN(auto item, item_of(call));
  FARSIDE_TRY(allow(item, "TestFailover"));
  const auto network_type = call.text({"properties", "networkType"});
  auto network = call.text({"properties", "networkId"});
  if (const auto name = segment_after(network, "replicationNetworks")) network = *name;
  if (network_type == "NoNetworkAttachAsInput") network.clear();
  auto point = call.text({"properties", "farside", "recoveryPoint"});
  if (point.empty()) {
    point = call.text({"properties", "providerSpecificDetails", "recoveryPointId"});
    if (const auto name = segment_after(point, "recoveryPoints")) point = *name;
  }
  FARSIDE_ASSIGN(const auto seq, point_from(point));
  const auto seconds = call.number({"properties", "farside", "lifeSeconds"}).value_or(0);
  if (seconds < 0 || seconds > 3600) {
    return fail(ErrorCode::kInvalidArgument,
                "lifeSeconds is " + std::to_string(seconds) + ", allowed are 1 to 3600");
  }
  const auto life = static_cast<std::uint32_t>(seconds);
  const auto path = item_path(call, item);
  return started(call, path, std::move(item),
                 {.workflow = "test_failover",
                  .meanwhile = ItemState::protected_,
                  .input = {.seq = seq, .network = network, .life_seconds = life}});
}

Reply Rest::test_failover_cleanup(Call& call) {
  FARSIDE_ASSIGN(auto item, item_of(call));
  FARSIDE_TRY(allow(item, "TestFailoverCleanup"));
  const auto path = item_path(call, item);
  return started(call, path, std::move(item),
                 {.workflow = "test_failover_cleanup",
                  .meanwhile = ItemState::protected_,
                  .input = {.notes = call.text({"properties", "comments"})}});
}

Reply Rest::planned_failover(Call& call) {
  FARSIDE_ASSIGN(auto item, item_of(call));
  FARSIDE_TRY(allow(item, "PlannedFailover"));
  if (call.text({"properties", "failoverDirection"}) == "RecoveryToPrimary") {
    return fail(ErrorCode::kConflict, "VM '" + item.vm_name + "' is active at its primary site",
                "fail over in direction PrimaryToRecovery");
  }
  const auto path = item_path(call, item);
  return started(
      call, path, std::move(item),
      {.workflow = "planned_failover", .meanwhile = ItemState::failingOver, .input = {}});
}

Reply Rest::commit_failover(Call& call) {
  FARSIDE_ASSIGN(auto item, item_of(call));
  FARSIDE_TRY(allow(item, "Commit"));
  FARSIDE_ASSIGN(const auto policy, catalog_.policy(call.effects.store(), item.policy));
  auto hours = std::int64_t{policy.keep_hours};
  if (const auto wanted = call.number({"properties", "farside", "keepHours"})) {
    hours = *wanted;
  } else if (item.state == ItemState::committed) {
    return fail(ErrorCode::kConflict, "the failover of VM '" + item.vm_name + "' is committed",
                "say with `farside commit " + item.vm_name +
                    " --keep-hours` how long its replica "
                    "stays, 0 = no longer");
  }
  if (hours < 0 || hours > 720) {
    return fail(ErrorCode::kInvalidArgument,
                "keepHours is " + std::to_string(hours) + ", allowed are 0 to 720");
  }
  const auto path = item_path(call, item);
  const auto meanwhile = item.state;
  return started(call, path, std::move(item),
                 {.workflow = "commit_failover",
                  .meanwhile = meanwhile,
                  .input = {.keep_hours = static_cast<std::uint32_t>(hours)}});
}

// What `farside resync` does, as clients of the original know it: at once, without a job.
Reply Rest::repair_replication(Call& call) {
  FARSIDE_ASSIGN(const auto item, item_of(call));
  return ask(call, identity::neighbour_of(item.source_agent), item.source_agent,
             reactor::message(msg::RetryReplication{.item = item.id, .compare = true}),
             [body = item_json(call, item)](const msg::Message& reply, reactor::Effects&) -> Reply {
               FARSIDE_TRY(flow::expect<msg::ReplicationRetried>(reply));
               return ok(body);
             });
}

// ---- What Farside has beyond the original

Reply Rest::pause_item(Call& call) {
  FARSIDE_ASSIGN(auto item, item_of(call));
  if (item.state != ItemState::protected_ && item.state != ItemState::initialReplication) {
    return fail(ErrorCode::kConflict,
                "VM '" + item.vm_name + "' is " + std::string(words(item.state).description) +
                    ": there is no replication to pause",
                "see `farside item show`");
  }
  if (item.paused_at == 0) {
    item.paused_at = call.effects.now().micros;
    catalog_.items.put(call.effects.writes, item.id, item);
    log::info("item paused", {{"item", item.id}, {"vm", item.vm_name}});
  }
  settings_desk_.changed(item, call.effects);
  return ok(item_json(call, item));
}

Reply Rest::resume_item(Call& call) {
  FARSIDE_ASSIGN(auto item, item_of(call));
  if (item.paused_at != 0) {
    item.paused_at = 0;
    catalog_.items.put(call.effects.writes, item.id, item);
    log::info("item resumed", {{"item", item.id}, {"vm", item.vm_name}});
  }
  settings_desk_.changed(item, call.effects);
  return ok(item_json(call, item));
}

Reply Rest::retry_item(Call& call) {
  return ask_for_delta(call, false);
}

Reply Rest::resync_item(Call& call) {
  return ask_for_delta(call, true);
}

Reply Rest::ask_for_delta(Call& call, bool compare) {
  FARSIDE_ASSIGN(const auto item, item_of(call));
  return ask(call, identity::neighbour_of(item.source_agent), item.source_agent,
             reactor::message(msg::RetryReplication{.item = item.id, .compare = compare}),
             [id = item.id, compare](const msg::Message& reply, reactor::Effects&) -> Reply {
               FARSIDE_TRY(flow::expect<msg::ReplicationRetried>(reply));
               return ok(Json{{"id", id}, {"status", compare ? "Resynchronizing" : "Retrying"}});
             });
}

}  // namespace farside::vault
