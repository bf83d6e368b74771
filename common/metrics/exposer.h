// Serves /metrics and /healthz over plain HTTP, for Prometheus and for whoever supervises us.
//
// Owns: the listening port and two HTTP threads, from start() until destruction.
// Thread: any; `health` and `notices` are called on the HTTP threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/metrics/registry.h"

namespace farside::metrics {

class Exposer final {
 public:
  // Why the process is not healthy; empty = it is.  Must return quickly and must not block on the
  // very thread it judges.
  using Health = std::function<std::string()>;

  // What is wrong elsewhere, a line each, while the process itself is well; empty = nothing.  It is
  // told under a 200: whoever starts a process again, or sends its clients elsewhere, by the status
  // would do so for what only a person can end.
  using Notices = std::function<std::string()>;

  // Port 0 takes a free one.  The registry must outlive the exposer.
  // Errors: kUnavailable (the port is taken or the address is not ours), kInvalidArgument.
  static Result<std::unique_ptr<Exposer>> start(const std::string& address, std::uint16_t port,
                                                const Registry& registry, Health health,
                                                Notices notices = {});
  ~Exposer();
  Exposer(const Exposer&) = delete;
  Exposer& operator=(const Exposer&) = delete;

  std::uint16_t port() const;

 private:
  struct Impl;
  explicit Exposer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::metrics
