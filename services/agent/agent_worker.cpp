#include "services/agent/agent_worker.h"

#include "common/shell/version.h"

namespace farside::agent {
namespace {

// "is this arm handled, and by what" for a list of alternatives.
template <class Work, class... Orders>
std::optional<Result<msg::Message>> try_each(Work& work, const msg::Message& job) {
  std::optional<Result<msg::Message>> out;
  const auto one = [&]<class Order>() {
    if (const auto* order = std::get_if<Order>(&job.value)) out = work.run(*order);
  };
  (one.template operator()<Orders>(), ...);
  return out;
}

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

struct Patient {
  Micros max{0};
  bool by_progress = false;
  bool may_repeat = false;
};

// By kind of job.  What moves data tells how far it is and is judged by that; what waits for a
// guest or for an order before it gets the longer end.
struct PatienceOf {
  // Asked every few seconds for ever: the next try must not wait for one that hangs.
  Patient operator()(const msg::EnforceFences&) const {
    return {.max = seconds{20}, .may_repeat = true};
  }
  Patient operator()(const msg::ObserveHost&) const {
    return {.max = minutes{1}, .may_repeat = true};
  }
  Patient operator()(const msg::Reconcile&) const { return {.max = minutes{5}}; }
  Patient operator()(const msg::CancelCycle&) const { return {.max = seconds{20}}; }

  // One try of a point, its blocks and its acknowledgement; a last one also the digest.
  Patient operator()(const msg::RunCycle&) const {
    return {.max = minutes{5}, .by_progress = true};
  }
  Patient operator()(const msg::DetachReplica&) const {
    return {.max = minutes{10}, .by_progress = true};
  }
  Patient operator()(const msg::CommitReplica&) const {
    return {.max = minutes{10}, .by_progress = true};
  }

  Patient operator()(const msg::ShutDownSource& order) const {
    return {.max = seconds{order.deadline_seconds} + minutes{2}};
  }
  // These read everything, or wait for an order that does.
  Patient operator()(const msg::VerifyPoint&) const { return {.max = hours{12}}; }
  Patient operator()(const msg::ItemSettings&) const { return {.max = hours{12}}; }
  Patient operator()(const msg::RemoveReplica&) const { return {.max = hours{12}}; }
  Patient operator()(const msg::MaintainReplica&) const { return {.max = minutes{30}}; }

  template <class Other>
  Patient operator()(const Other&) const {
    return {.max = minutes{10}};
  }
};

// What the operator looks at when the job hangs.
struct PlaceOf {
  std::string operator()(const msg::RunCycle& job) const {
    return "item '" + job.source.item + "' (VM '" + job.source.vm + "', to " + job.source.endpoint +
           ")";
  }
  std::string operator()(const msg::MaintainReplica& job) const {
    return "item '" + job.replica.item + "' (volume " + job.replica.storage_path + ")";
  }
  std::string operator()(const msg::PrepareReplica& order) const {
    return "item '" + order.item + "' (volume " + order.storage_path + ")";
  }
  template <class Other>
  std::string operator()(const Other& job) const {
    std::string out;
    if constexpr (requires { std::string(job.item); }) out = "item '" + job.item + "' ";
    if constexpr (requires { std::string(job.vm); }) {
      if (!job.vm.empty()) out += "(VM '" + job.vm + "') ";
    }
    return out + "on this host";
  }
};

}  // namespace

reactor::Patience AgentWorker::patience_for(const msg::Message& job) {
  const auto patient = std::visit(PatienceOf(), job.value);
  return {.max = patient.max,
          .by_progress = patient.by_progress,
          .may_repeat = patient.may_repeat,
          .of = std::visit(PlaceOf(), job.value)};
}

Result<msg::Message> AgentWorker::observe() {
  FARSIDE_ASSIGN(auto host, platform_.describe_host());
  FARSIDE_ASSIGN(auto vms, platform_.list_vms());
  host.agent_version = std::string(shell::kVersion);
  host.data_endpoint = data_endpoint_;
  host.public_key = public_key_;
  return reactor::message(msg::HostReport{.host = std::move(host), .vms = std::move(vms)});
}

bool AgentWorker::is_urgent(const msg::Message& job) {
  return std::holds_alternative<msg::EnforceFences>(job.value) ||
         std::holds_alternative<msg::FenceSource>(job.value) ||
         std::holds_alternative<msg::CancelCycle>(job.value) ||
         std::holds_alternative<msg::ObserveHost>(job.value);
}

Result<msg::Message> AgentWorker::run(const std::string& id, const msg::Message& job) {
  if (std::holds_alternative<msg::ObserveHost>(job.value)) return observe();
  if (std::holds_alternative<msg::EnforceFences>(job.value)) {
    FARSIDE_ASSIGN(auto stopped, platform_.enforce_fences());
    return reactor::message(msg::FencesEnforced{.stopped = std::move(stopped)});
  }
  if (auto result = try_each<SourceWork, msg::CheckSource, msg::RunCycle, msg::CancelCycle,
                             msg::StopReplication, msg::ShutDownSource, msg::RestartSource,
                             msg::FenceSource, msg::UnfenceSource>(source_, job)) {
    return std::move(*result);
  }
  if (auto result =
          try_each<TargetWork, msg::Reconcile, msg::ItemSettings, msg::PrepareReplica,
                   msg::RemoveReplica, msg::VerifyPoint, msg::PromoteReplica, msg::DemoteReplica,
                   msg::StartReplica, msg::StartTestVm, msg::RemoveTestVm, msg::ListPoints,
                   msg::AwaitLife, msg::MaintainReplica>(target_, job)) {
    return std::move(*result);
  }
  if (const auto* order = std::get_if<msg::ProveReplica>(&job.value)) {
    return target_.run(*order, id);
  }
  if (const auto* order = std::get_if<msg::DetachReplica>(&job.value)) {
    return target_.run(*order, id);
  }
  if (const auto* order = std::get_if<msg::CommitReplica>(&job.value)) {
    return target_.run(*order, id);
  }
  return fail(ErrorCode::kUnsupported,
              "an agent's workers do not do '" + std::string(msg::name_of(job)) + "'",
              "both sides must run the same release");
}

}  // namespace farside::agent
