// The WS-Management service of a simulated host, as strict as Windows' own where that is known: it
// refuses what is not exactly in the right form instead of guessing what was meant.
//
// The numbers of WS-Management's own faults stand for themselves; only their subcodes and texts
// are modelled after Windows'.
// Source: DMTF DSP0226 and DSP0227; what public clients report of real hosts.
//
// Thread: any; one request at a time is answered.
#pragma once

#include <map>
#include <mutex>
#include <pugixml.hpp>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "tests/support/hvsim/jobs.h"

namespace farside::hvsim {

struct SoapAnswer {
  int status = 200;
  std::string xml;
};

struct SoapLimits {
  std::size_t envelope_bytes_max = 512'000;  // MaxEnvelopeSizekb.
  Micros context_kept{240'000'000};          // EnumerationTimeoutms.
};

class ShellHost;

class SoapHost final {
 public:
  // All outlive the host.
  SoapHost(Objects& objects, Methods& methods, Jobs& jobs, const Clock& clock, Random& random,
           SoapLimits limits)
      : objects_(objects),
        methods_(methods),
        jobs_(jobs),
        clock_(clock),
        random_(random),
        limits_(limits) {}

  // `shell` outlives the host; call before anything is answered.
  void serve_shell(ShellHost& shell) { shell_ = &shell; }

  SoapAnswer answer(const std::string& envelope);

  // Calls `act` while nothing is being answered.
  template <class Act>
  auto exclusively(Act act) {
    const std::lock_guard lock(mutex_);
    return act();
  }

 private:
  struct Request;
  struct Context {
    std::vector<std::string> items;  // Written already: what was found is what is told.
    std::size_t next = 0;
    Micros expires{0};
  };
  Result<std::string> body_for(Request& request);
  Result<std::string> enumerate(const Request& request);
  Result<std::string> pull(const Request& request);
  Result<std::string> release(const Request& request);
  Result<std::string> get(const Request& request);
  Result<std::string> invoke(const Request& request);
  Result<std::string> page(const Request& request, const std::string& id, std::size_t items_max,
                           bool is_first);

  Objects& objects_;
  Methods& methods_;
  Jobs& jobs_;
  const Clock& clock_;
  Random& random_;
  const SoapLimits limits_;
  ShellHost* shell_ = nullptr;
  std::mutex mutex_;
  std::map<std::string, Context> contexts_;
};

}  // namespace farside::hvsim
