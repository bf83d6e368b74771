// Where a core's jobs run: a pool of threads in production, a schedule in simulation.
#pragma once

#include <functional>
#include <string>

#include "common/base/result.h"
#include "common/schema/envelope.plain.h"

namespace farside::reactor {

class Workers {
 public:
  virtual ~Workers() = default;

  // Runs `request` some time later.  A job whose id is still running is not started again; one
  // that finds the queue full ends at once with kUnavailable as its result.
  virtual void start(const std::string& id, msg::Message request) = 0;

  // Hands over what has finished since the last call, without waiting.
  using OnResult = std::function<void(const std::string& id, Result<msg::Message>)>;
  virtual void collect(const OnResult& on_result) = 0;
};

}  // namespace farside::reactor
