// What is wrong with a process right now, by part: whatever is listed fails its health check.
//
// Thread: any.
#pragma once

#include <map>
#include <mutex>
#include <string>

namespace farside::metrics {

class Problems final {
 public:
  // An empty text means that the part is well again.
  void set(const std::string& part, const std::string& problem) {
    const std::lock_guard lock(mutex_);
    if (problem.empty()) {
      by_part_.erase(part);
    } else {
      by_part_[part] = problem;
    }
  }

  // "part: problem" for each, "; " between them; empty while all is well.
  std::string text() const {
    const std::lock_guard lock(mutex_);
    std::string out;
    for (const auto& [part, problem] : by_part_) {
      out += (out.empty() ? "" : "; ") + part + ": " + problem;
    }
    return out;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::string> by_part_;
};

}  // namespace farside::metrics
