// What the messages of one peer may take of this process' memory together, over all its
// connections, from their first byte until whoever handles them is done.
//
// Owns: counts only.  Thread: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace farside::bus {

inline constexpr std::uint64_t kPeerBytesMax = std::uint64_t{64} << 20U;

struct Budget {
  explicit Budget(std::uint64_t max_in) : max(max_in) {}
  const std::uint64_t max;
  std::atomic<std::uint64_t> used = 0;
};

// A part of a budget that is in use; gives it back at its end.
class Charge final {
 public:
  Charge() = default;
  explicit Charge(std::shared_ptr<Budget> budget) : budget_(std::move(budget)) {}
  ~Charge() { release(); }
  Charge(Charge&& other) noexcept
      : budget_(other.budget_), bytes_(std::exchange(other.bytes_, 0)) {}
  Charge& operator=(Charge&& other) noexcept {
    if (this == &other) return *this;
    release();
    budget_ = other.budget_;
    bytes_ = std::exchange(other.bytes_, 0);
    return *this;
  }

  // False if there is no room, with `spare` bytes left: nothing changed.
  bool add(std::uint64_t bytes, std::uint64_t spare = 0) {
    if (!budget_) return true;
    if (budget_->used.fetch_add(bytes) + bytes + spare > budget_->max) {
      budget_->used.fetch_sub(bytes);
      return false;
    }
    bytes_ += bytes;
    return true;
  }
  void release() {
    if (budget_) budget_->used.fetch_sub(std::exchange(bytes_, 0));
  }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<Budget> budget_;
  std::uint64_t bytes_ = 0;
};

// The budgets of all peers of a process, or of those ports that share them.
class Budgets final {
 public:
  explicit Budgets(std::uint64_t max = kPeerBytesMax) : max_(max) {}

  std::shared_ptr<Budget> of(const std::string& key) {
    const std::lock_guard lock(mutex_);
    std::erase_if(budgets_, [](const auto& one) { return one.second.expired(); });
    auto budget = budgets_[key].lock();
    if (!budget) budgets_[key] = budget = std::make_shared<Budget>(max_);
    return budget;
  }

 private:
  const std::uint64_t max_;
  std::mutex mutex_;  // Guards the next.
  std::map<std::string, std::weak_ptr<Budget>> budgets_;
};

}  // namespace farside::bus
