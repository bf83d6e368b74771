#include "tests/sim/agent_model.h"

#include <algorithm>

#include "common/reactor/effects.h"

namespace farside::sim {

using reactor::message;

namespace {

std::string host_at(const std::string& endpoint) {
  const auto at = endpoint.find("//") + 2;
  return endpoint.substr(at, endpoint.rfind(':') - at);
}

std::string data_endpoint(const std::string& host) {
  return "tcp://" + host + ":8084";
}

// The same key as on the control plane: see key_of() in world.cpp.
std::string data_key(const std::string& host) {
  return "key-of-agent/" + host.substr(4) + "/" + host;
}

}  // namespace

Result<ModelVm*> AgentModel::vm(const std::string& id) {
  const auto found = host_.vms.find(id);
  if (found == host_.vms.end()) return fail(ErrorCode::kNotFound, "no VM '" + id + "'");
  return &found->second;
}

Result<ModelReplica*> AgentModel::replica(const std::string& item) {
  const auto found = host_.replicas.find(item);
  if (found == host_.replicas.end()) return fail(ErrorCode::kNotFound, "no replica '" + item + "'");
  return &found->second;
}

SimWorkers::End AgentModel::begin(const msg::Message& job) {
  if (const auto* cycle = std::get_if<msg::RunCycle>(&job.value)) return begin_cycle(*cycle);
  return [this, job] { return run(job); };
}

// The point is taken when the job begins, and durable when it ends, if the target still wants it.
SimWorkers::End AgentModel::begin_cycle(const msg::RunCycle& job) {
  const auto source = vm(job.source.vm);
  if (!source) return [error = source.error()] { return fail(error); };
  auto& taken = **source;
  if (job.final) taken.is_running = false;
  if (job.final && (job.source.resync || job.source.token.empty())) {
    return [] { return fail(ErrorCode::kConflict, "not all blocks while the VM is down"); };
  }
  if (!job.source.token.empty() && !taken.tokens.contains(job.source.token) && !job.source.resync) {
    return [] { return fail(ErrorCode::kTrackingLost, "no such token"); };
  }
  taken.tokens.insert(job.attempt);
  const auto writes = taken.writes;
  const auto captured_at = clock_.now().micros;
  return [this, job, writes, captured_at]() -> Result<msg::Message> {
    if (cancelled_.erase(job.source.item + "/" + job.attempt) > 0) {
      return fail(ErrorCode::kCancelled, "the cycle was cancelled");
    }
    auto* target = find_replica_(host_at(job.source.endpoint), job.source.item);
    if (target == nullptr) return fail(ErrorCode::kUnavailable, "target agent not reachable");
    if (!target->is_open || job.source.epoch < target->epoch) {
      return fail(ErrorCode::kStaleEpoch, "the replica takes no deltas of this epoch");
    }
    const std::uint64_t seq = target->points.empty() ? 1 : target->points.rbegin()->first + 1;
    target->points[seq] = ModelPoint{.writes = writes, .captured_at = captured_at};
    target->epoch = job.source.epoch;
    const auto still = vm(job.source.vm);
    if (still) (*still)->tokens = {job.attempt};
    return message(msg::CycleDone{.item = job.source.item,
                                  .point = {.seq = seq,
                                            .captured_at = captured_at,
                                            .bytes = writes,
                                            .epoch = job.source.epoch},
                                  .token = job.attempt,
                                  .guest_bytes = writes,
                                  .wire_bytes = writes,
                                  .resynced = job.source.resync,
                                  .digest = job.digest ? "digest-" + std::to_string(writes) : ""});
  };
}

Result<msg::Message> AgentModel::boot(const std::string& item, const std::string& id,
                                      std::uint64_t seq, bool is_test, ModelPoint& booted,
                                      std::uint64_t& booted_seq) {
  FARSIDE_ASSIGN(auto* from, replica(item));
  if (from->points.empty()) return fail(ErrorCode::kNotFound, "no recovery point");
  booted_seq = seq == 0 ? from->points.rbegin()->first : seq;
  if (!from->points.contains(booted_seq)) return fail(ErrorCode::kNotFound, "no such point");
  booted = from->points[booted_seq];
  if (!host_.vms.contains(id)) {
    host_.vms[id] = ModelVm{.shape = {.id = id, .is_replica = true, .is_test = is_test},
                            .writes = booted.writes,
                            .booted_with = booted.writes,
                            .is_running = true,
                            .item = item};
  }
  return msg::Message{};
}

void AgentModel::release(const std::string& vm) {
  const auto found = host_.vms.find(vm);
  if (found != host_.vms.end()) found->second.shape.is_replica = false;
}

Result<msg::Message> AgentModel::run(const msg::Message& job) {
  const auto& body = job.value;
  if (std::holds_alternative<msg::ObserveHost>(body)) {
    msg::HostReport report{.host = {.name = host_.name,
                                    .platform = "model",
                                    .processors = 8,
                                    .memory_mib = 65536,
                                    .memory_free_mib = 60000,
                                    .networks = {"net"},
                                    .storage = {{.path = "/replicas",
                                                 .total_bytes = 1ULL << 40U,
                                                 .free_bytes = 1ULL << 39U}},
                                    .data_endpoint = data_endpoint(host_.name),
                                    .public_key = data_key(host_.name)}};
    for (const auto& [id, machine] : host_.vms) {
      auto shape = machine.shape;
      shape.state = machine.is_running ? msg::PowerState::running : msg::PowerState::off;
      report.vms.push_back(shape);
    }
    return message(std::move(report));
  }
  if (std::holds_alternative<msg::EnforceFences>(body)) {
    msg::FencesEnforced enforced;
    for (auto& [id, machine] : host_.vms) {
      if (!machine.is_fenced || !machine.is_running) continue;
      machine.is_running = false;
      enforced.stopped.push_back(id);
    }
    return message(std::move(enforced));
  }
  if (const auto* reconcile = std::get_if<msg::Reconcile>(&body)) {
    std::erase_if(host_.vms, [&](const auto& entry) {
      return entry.second.shape.is_test &&
             std::ranges::find(reconcile->keep_vms, entry.first) == reconcile->keep_vms.end();
    });
    for (auto& [item, kept] : host_.replicas) kept.is_open = false;
    for (const auto& kept : reconcile->replicas) {
      if (!kept.promoted) host_.replicas[kept.item].is_open = true;
    }
    return message(msg::Reconciled{});
  }
  if (const auto* kept = std::get_if<msg::MaintainReplica>(&body)) {
    FARSIDE_ASSIGN(auto* found, replica(kept->replica.item));
    if (kept->replica.committed) {
      msg::ReplicaStatus status{.item = kept->replica.item};
      if (clock_.now().micros < kept->replica.kept_until) {
        status.kept_until = kept->replica.kept_until;
      } else {
        host_.replicas.erase(kept->replica.item);
      }
      return message(msg::ReplicaMaintained{.status = std::move(status)});
    }
    while (found->points.size() > 20) found->points.erase(found->points.begin());
    return message(msg::ReplicaMaintained{.status = {.item = kept->replica.item}});
  }
  if (const auto* order = std::get_if<msg::CheckSource>(&body)) {
    FARSIDE_ASSIGN(auto* machine, vm(order->vm));
    auto shape = machine->shape;
    shape.state = machine->is_running ? msg::PowerState::running : msg::PowerState::off;
    return message(msg::SourceChecked{.vm = std::move(shape), .public_key = data_key(host_.name)});
  }
  if (const auto* order = std::get_if<msg::ShutDownSource>(&body)) {
    FARSIDE_ASSIGN(auto* machine, vm(order->vm));
    const bool was = machine->is_running;
    machine->is_running = false;
    return message(msg::SourceShutDown{.item = order->item, .was_running = was});
  }
  if (const auto* order = std::get_if<msg::RestartSource>(&body)) {
    FARSIDE_ASSIGN(auto* machine, vm(order->vm));
    if (machine->is_fenced) return fail(ErrorCode::kStaleEpoch, "the VM is fenced");
    machine->is_running = order->start || machine->is_running;
    return message(msg::SourceRestarted{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::FenceSource>(&body)) {
    FARSIDE_ASSIGN(auto* machine, vm(order->vm));
    machine->is_fenced = true;
    return message(msg::SourceFenced{.item = order->item, .epoch = order->epoch});
  }
  if (const auto* order = std::get_if<msg::UnfenceSource>(&body)) {
    FARSIDE_ASSIGN(auto* machine, vm(order->vm));
    machine->is_fenced = false;
    return message(msg::SourceUnfenced{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::CancelCycle>(&body)) {
    cancelled_.insert(order->item + "/" + order->attempt);
    return message(msg::CycleCancelled{});
  }
  if (const auto* settings = std::get_if<msg::ItemSettings>(&body)) {
    FARSIDE_TRY(replica(settings->item));
    return message(*settings);
  }
  if (const auto* order = std::get_if<msg::StopReplication>(&body)) {
    if (const auto machine = vm(order->vm)) (*machine)->tokens.clear();
    return message(msg::ReplicationStopped{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::PrepareReplica>(&body)) {
    auto& made = host_.replicas[order->item];
    made.epoch = std::max(made.epoch, order->epoch);
    made.is_open = true;
    return message(msg::ReplicaPrepared{.item = order->item,
                                        .endpoint = data_endpoint(host_.name),
                                        .public_key = data_key(host_.name)});
  }
  if (const auto* order = std::get_if<msg::RemoveReplica>(&body)) {
    host_.replicas.erase(order->item);
    std::erase_if(host_.vms, [&](const auto& entry) {
      return entry.second.item == order->item && entry.second.shape.is_test;
    });
    release(order->vm);
    return message(msg::ReplicaRemoved{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::VerifyPoint>(&body)) {
    FARSIDE_ASSIGN(auto* found, replica(order->item));
    const auto point = found->points.find(order->seq);
    if (point == found->points.end() ||
        "digest-" + std::to_string(point->second.writes) != order->digest) {
      return fail(ErrorCode::kCorrupt, "digests differ");
    }
    if (order->since != 0 && found->verified != order->since && found->verified != order->seq) {
      return fail(ErrorCode::kConflict, "that point was not verified");
    }
    found->verified = order->seq;
    return message(msg::PointVerified{.item = order->item, .seq = order->seq});
  }
  if (const auto* order = std::get_if<msg::ProveReplica>(&body)) {
    FARSIDE_TRY(replica(order->item));
    return message(msg::ReplicaProven{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::AwaitLife>(&body)) {
    return message(msg::LifeSeen{.item = order->item, .sign = "the model runs"});
  }
  if (const auto* order = std::get_if<msg::PromoteReplica>(&body)) {
    FARSIDE_ASSIGN(auto* found, replica(order->item));
    found->is_open = false;
    return message(msg::ReplicaPromoted{.item = order->item, .epoch = order->epoch});
  }
  if (const auto* order = std::get_if<msg::DemoteReplica>(&body)) {
    FARSIDE_ASSIGN(auto* found, replica(order->item));
    found->is_open = true;
    return message(msg::ReplicaDemoted{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::StartReplica>(&body)) {
    FARSIDE_ASSIGN(auto* found, replica(order->item));
    found->epoch = std::max(found->epoch, order->epoch);
    ModelPoint point;
    std::uint64_t seq = 0;
    FARSIDE_TRY(boot(order->item, order->vm, order->seq, false, point, seq));
    return message(msg::ReplicaStarted{.item = order->item, .vm = order->vm, .seq = seq});
  }
  if (const auto* order = std::get_if<msg::StartTestVm>(&body)) {
    ModelPoint point;
    std::uint64_t seq = 0;
    FARSIDE_TRY(boot(order->item, order->vm, order->seq, true, point, seq));
    return message(msg::TestVmStarted{
        .item = order->item, .vm = order->vm, .seq = seq, .captured_at = point.captured_at});
  }
  if (const auto* order = std::get_if<msg::RemoveTestVm>(&body)) {
    std::erase_if(host_.vms, [&](const auto& entry) {
      return entry.second.item == order->item && entry.second.shape.is_test;
    });
    return message(msg::TestVmRemoved{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::DetachReplica>(&body)) {
    return message(msg::ReplicaDetached{.item = order->item});
  }
  if (const auto* order = std::get_if<msg::CommitReplica>(&body)) {
    release(order->vm);
    const auto kept = host_.replicas.find(order->item);
    if (kept == host_.replicas.end() || order->keep_hours == 0) {
      host_.replicas.erase(order->item);
      return message(msg::ReplicaCommitted{.item = order->item, .vm = order->vm});
    }
    kept->second.is_open = false;
    return message(msg::ReplicaCommitted{
        .item = order->item,
        .vm = order->vm,
        .kept_until = (clock_.now() + std::chrono::hours{order->keep_hours}).micros});
  }
  if (const auto* order = std::get_if<msg::ListPoints>(&body)) {
    return message(msg::Points{.item = order->item});
  }
  return fail(ErrorCode::kUnsupported,
              "the model has no job '" + std::string(msg::name_of(job)) + "'");
}

}  // namespace farside::sim
