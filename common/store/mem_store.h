// A store in memory, for tests and simulation.
//
// Owns: its map.  Thread: one.  A simulated process that crashes keeps its MemStore: it is the
// disk.  What the process had planned but not committed was never in here.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "common/store/store.h"

namespace farside::store {

class MemStore final : public Store {
 public:
  Result<std::optional<std::string>> get(std::string_view column,
                                         std::string_view key) const override;
  // `visit` must not commit.
  Status scan(std::string_view column, std::string_view prefix, std::string_view from,
              const Visitor& visit) const override;
  Status commit(const Batch& batch) override;

  // The next commit applies nothing and returns this.
  void fail_next_commit(Error error) { next_failure_ = std::move(error); }

  // The process dies and another opens the same disk: everything committed is there, a failure
  // that was still to come is not.
  void crash() { next_failure_.reset(); }

  std::uint64_t commits() const { return commits_; }

 private:
  using Column = std::map<std::string, std::string, std::less<>>;
  std::map<std::string, Column, std::less<>> columns_;
  std::optional<Error> next_failure_;
  std::uint64_t commits_ = 0;
};

}  // namespace farside::store
