// What healthy receivers answer to the steps of workflows.
#pragma once

#include <gtest/gtest.h>

#include "common/schema/envelope.plain.h"

namespace farside::testing_support {

// The answer that a healthy receiver gives.
inline msg::Message answer_to(const msg::Message& request) {
  const auto& body = request.value;
  if (std::get_if<msg::CheckSource>(&body) != nullptr) {
    return msg::SourceChecked{.vm = {.id = "vm", .name = "web", .nics = {{.network = "lan"}}}};
  }
  if (std::get_if<msg::PlaceReplica>(&body) != nullptr) {
    return msg::ReplicaPlaced{.agent = "agent/B/host", .storage_path = "/replicas"};
  }
  if (const auto* asked = std::get_if<msg::ResolveNetworks>(&body)) {
    return msg::NetworksResolved{.host_networks = asked->networks};
  }
  if (std::get_if<msg::ReleasePlacement>(&body) != nullptr) return msg::PlacementReleased{};
  if (std::get_if<msg::PrepareReplica>(&body) != nullptr) return msg::ReplicaPrepared{};
  if (std::get_if<msg::RemoveReplica>(&body) != nullptr) return msg::ReplicaRemoved{};
  if (std::get_if<msg::RecordItem>(&body) != nullptr) return msg::ItemRecorded{};
  if (std::get_if<msg::StartReplication>(&body) != nullptr) return msg::ReplicationStarted{};
  if (std::get_if<msg::StopReplication>(&body) != nullptr) return msg::ReplicationStopped{};
  if (std::get_if<msg::AwaitInitial>(&body) != nullptr) return msg::InitialDone{};
  if (std::get_if<msg::ShutDownSource>(&body) != nullptr) return msg::SourceShutDown{};
  if (std::get_if<msg::RestartSource>(&body) != nullptr) return msg::SourceRestarted{};
  if (std::get_if<msg::SyncSource>(&body) != nullptr) return msg::SourceSynced{};
  if (std::get_if<msg::FinalSync>(&body) != nullptr) return msg::FinalSynced{};
  if (std::get_if<msg::FenceSource>(&body) != nullptr) return msg::SourceFenced{};
  if (std::get_if<msg::UnfenceSource>(&body) != nullptr) return msg::SourceUnfenced{};
  if (std::get_if<msg::VerifyPoint>(&body) != nullptr) return msg::PointVerified{};
  if (std::get_if<msg::PromoteReplica>(&body) != nullptr) return msg::ReplicaPromoted{};
  if (std::get_if<msg::DemoteReplica>(&body) != nullptr) return msg::ReplicaDemoted{};
  if (std::get_if<msg::ProveReplica>(&body) != nullptr) return msg::ReplicaProven{};
  if (std::get_if<msg::AwaitLife>(&body) != nullptr) return msg::LifeSeen{.sign = "it writes"};
  if (std::get_if<msg::StartReplica>(&body) != nullptr) return msg::ReplicaStarted{.vm = "replica"};
  if (std::get_if<msg::DetachReplica>(&body) != nullptr) return msg::ReplicaDetached{};
  if (std::get_if<msg::CommitReplica>(&body) != nullptr) return msg::ReplicaCommitted{};
  if (std::get_if<msg::StartTestVm>(&body) != nullptr) return msg::TestVmStarted{.vm = "test"};
  if (std::get_if<msg::RemoveTestVm>(&body) != nullptr) return msg::TestVmRemoved{};
  ADD_FAILURE() << "no answer known to " << msg::name_of(request);
  return {};
}

}  // namespace farside::testing_support
