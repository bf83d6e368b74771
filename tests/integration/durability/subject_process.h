// A running durability-subject, and what it has acknowledged.
//
// Owns: the process.  Thread: one.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace farside::durability {

class Subject final {
 public:
  Subject(const std::string& what, const std::string& folder, std::uint64_t seed);
  ~Subject();
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  // The next thing that it says; none: it has ended, or says nothing for a minute.
  std::optional<std::string> next();
  void tell(const std::string& line) const;
  void kill();  // As a power cut does.

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  int in_ = -1;
  std::string read_;
};

}  // namespace farside::durability
