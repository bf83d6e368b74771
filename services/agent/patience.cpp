#include "services/agent/patience.h"

#include <string>
#include <variant>

namespace farside::agent {
namespace {

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

  // One try of a point, its blocks and its acknowledgement, and maybe its digest.
  Patient operator()(const msg::RunCycle&) const {
    return {.max = minutes{5}, .by_progress = true};
  }
  Patient operator()(const msg::VerifyPoint&) const {
    return {.max = minutes{10}, .by_progress = true};
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

reactor::Patience patience_for(const msg::Message& job) {
  const auto patient = std::visit(PatienceOf(), job.value);
  return {.max = patient.max,
          .by_progress = patient.by_progress,
          .may_repeat = patient.may_repeat,
          .of = std::visit(PlaceOf(), job.value)};
}

}  // namespace farside::agent
