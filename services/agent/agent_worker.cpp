#include "services/agent/agent_worker.h"

#include "common/base/version.h"

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

}  // namespace

Result<msg::Message> AgentWorker::observe() {
  FARSIDE_ASSIGN(auto host, platform_.describe_host());
  FARSIDE_ASSIGN(auto vms, platform_.list_vms());
  host.agent_version = std::string(kVersion);
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
  if (auto result = try_each<TargetWork, msg::Reconcile, msg::ItemSettings, msg::PrepareReplica,
                             msg::RemoveReplica, msg::PromoteReplica, msg::DemoteReplica,
                             msg::StartReplica, msg::StartTestVm, msg::RemoveTestVm,
                             msg::ListPoints, msg::AwaitLife, msg::MaintainReplica>(target_, job)) {
    return std::move(*result);
  }
  if (const auto* order = std::get_if<msg::ProveReplica>(&job.value)) {
    return target_.run(*order, id);
  }
  if (const auto* order = std::get_if<msg::VerifyPoint>(&job.value)) {
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
