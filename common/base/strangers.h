// The connections of a port that have not proven who they are, and which of them gives way when
// there is no room for another.  Not to the newcomer's loss: who proves itself does so within
// moments, while those who hold a port just stay.
//
// Owns: its list.  Thread: one.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace farside {

class Strangers final {
 public:
  Strangers(std::size_t max, std::size_t per_neighbourhood)
      : max_(max), per_neighbourhood_(per_neighbourhood) {}

  // Who has to go before one from there comes in; empty: there is room.
  std::optional<std::uint64_t> in_the_way(const std::string& neighbourhood) const {
    const auto count = counts_.find(neighbourhood);
    if (count != counts_.end() && count->second >= per_neighbourhood_)
      return oldest(&neighbourhood);
    if (all_.size() >= max_) return oldest(nullptr);
    return std::nullopt;
  }
  std::optional<std::uint64_t> oldest() const { return oldest(nullptr); }

  // Ids grow.
  void add(std::uint64_t id, std::string neighbourhood) {
    ++counts_[neighbourhood];
    all_[id] = {.neighbourhood = std::move(neighbourhood), .since = Clock::now()};
  }
  // It has said something that makes sense: others go first.
  void spoke(std::uint64_t id) {
    if (const auto found = all_.find(id); found != all_.end()) found->second.spoke = true;
  }
  void remove(std::uint64_t id) {
    const auto found = all_.find(id);
    if (found == all_.end()) return;
    const auto count = counts_.find(found->second.neighbourhood);
    if (--count->second == 0) counts_.erase(count);
    all_.erase(found);
  }
  std::size_t size() const { return all_.size(); }

 private:
  using Clock = std::chrono::steady_clock;
  // Whoever came just now has had no time to say anything.
  static constexpr std::chrono::seconds kMoment{1};
  struct Stranger {
    std::string neighbourhood;
    Clock::time_point since{};
    bool spoke = false;
  };
  std::optional<std::uint64_t> oldest(const std::string* neighbourhood) const {
    std::optional<std::uint64_t> out;
    for (const auto& [id, one] : all_) {
      if (neighbourhood != nullptr && one.neighbourhood != *neighbourhood) continue;
      if (!one.spoke && Clock::now() - one.since > kMoment) return id;
      if (!out) out = id;
    }
    return out;
  }

  const std::size_t max_;
  const std::size_t per_neighbourhood_;
  std::map<std::uint64_t, Stranger> all_;  // Oldest first.
  std::map<std::string, std::size_t> counts_;
};

}  // namespace farside
