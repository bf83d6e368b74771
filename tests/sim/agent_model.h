// An agent's workers on a model host: each job of AgentCore in terms of write counts.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "common/base/random.h"
#include "tests/sim/model_host.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_workers.h"

namespace farside::sim {

class AgentModel final {
 public:
  // The replica of an item at the other end of the data plane; nullptr: not reachable now.
  using FindReplica =
      std::function<ModelReplica*(const std::string& host, const std::string& item)>;

  AgentModel(ModelHost& host, const SimClock& clock, Random& random, FindReplica find_replica)
      : host_(host), clock_(clock), random_(random), find_replica_(std::move(find_replica)) {}

  SimWorkers::End begin(const msg::Message& job);

 private:
  SimWorkers::End begin_cycle(const msg::RunCycle& job);
  Result<msg::Message> run(const msg::Message& job);
  Result<msg::Message> boot(const std::string& item, const std::string& id, std::uint64_t seq,
                            bool is_test, ModelPoint& booted, std::uint64_t& booted_seq);
  void release(const std::string& vm);
  Result<ModelVm*> vm(const std::string& id);
  Result<ModelReplica*> replica(const std::string& item);

  ModelHost& host_;
  const SimClock& clock_;
  Random& random_;
  FindReplica find_replica_;
  std::set<std::string> cancelled_;  // "item/attempt"
};

}  // namespace farside::sim
