// Carries out an agent core's jobs: which message goes to which part.
//
// Owns: nothing.  Thread: any worker.
#pragma once

#include <string>

#include "common/reactor/effects.h"
#include "common/reactor/worker_pool.h"
#include "services/agent/source_work.h"
#include "services/agent/target_work.h"

namespace farside::agent {

class AgentWorker final {
 public:
  AgentWorker(Platform& platform, SourceWork& source, TargetWork& target, std::string data_endpoint,
              std::string public_key)
      : platform_(platform),
        source_(source),
        target_(target),
        data_endpoint_(std::move(data_endpoint)),
        public_key_(std::move(public_key)) {}

  // `id` is the job's: progress is reported under it.
  Result<msg::Message> run(const std::string& id, const msg::Message& job);

  // Short jobs that must not wait behind long ones: fences above all.
  static bool is_urgent(const msg::Message& job);

  // How long each kind of job may take; past that it is a problem of this host's health.
  static reactor::Patience patience_for(const msg::Message& job);

 private:
  Result<msg::Message> observe();

  Platform& platform_;
  SourceWork& source_;
  TargetWork& target_;
  std::string data_endpoint_;
  std::string public_key_;
};

}  // namespace farside::agent
