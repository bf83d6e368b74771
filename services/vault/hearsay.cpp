#include "services/vault/hearsay.h"

#include <optional>
#include <utility>
#include <vector>

#include "common/base/clip.h"

namespace farside::vault {
namespace {

void cut(std::string& text) {
  text = clipped(std::move(text), kReasonMax);
}

void cut(msg::Fault& fault) {
  cut(fault.what);
  cut(fault.advice);
}

void cut(std::optional<msg::Fault>& fault) {
  if (fault) cut(*fault);
}

void cut(std::vector<msg::Fault>& faults) {
  if (faults.size() > kFaultsMax) faults.resize(kFaultsMax);
  for (auto& fault : faults) cut(fault);
}

}  // namespace

void cut(msg::ReplicationStatus& status) {
  cut(status.fault);
}

void cut(msg::ReplicaStatus& status) {
  cut(status.fault);
  cut(status.proof_fault);
  cut(status.faults);
  cut(status.warnings);
}

void cut(msg::HostState& host) {
  cut(host.problem);
  if (host.troubles.size() > kTroublesMax) host.troubles.resize(kTroublesMax);
  for (auto& trouble : host.troubles) cut(trouble.what);
}

}  // namespace farside::vault
