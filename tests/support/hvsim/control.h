// A Unix socket that takes orders, one JSON object a line, and answers each with a line:
//
//   {"do":"unauthorized","times":1}        the next request gets a 401, its login is forgotten
//   {"do":"reset","times":1}               the next request's connection is reset
//   {"do":"delay","times":1,"ms":500}      the next answer comes late
//   {"do":"job_time","ms":100}             how long jobs take
//   {"do":"fail_jobs","times":1,"code":32768,"text":"…"}
//   {"do":"settings_by_job","on":true}     results of changed settings come only through a job
//   {"do":"lose_tracking","path":"C:\\…"}
//   {"do":"disk_changes","path":"C:\\…","disk_bytes":1048576,"ranges":[[0,4096],…]}
//
// A host whose machines really run knows more orders: RealHost::obey().
//
// Owns: the socket and its thread.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/base/result.h"
#include "tests/support/hvsim/faults.h"

namespace farside::hvsim {

// Obeys what is for somebody else than the faults; empty if it is not for him either.
using MoreOrders = std::function<std::string(const nlohmann::json& order)>;

// What a line does, and "ok" or why not.
std::string obey(Faults& faults, const std::string& line, const MoreOrders& more = {});

class Control final {
 public:
  // `faults` outlives it; `more` is asked first.  Errors: kUnavailable.
  static Result<std::unique_ptr<Control>> start(const std::string& path, Faults& faults,
                                                MoreOrders more = {});
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

 private:
  struct Impl;
  explicit Control(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::hvsim
