// Things that one thread at a time may use, and that are costly to make: taken for a while and
// given back, made when none is idle.
//
// Owns: those that are idle.  Thread: any.  Outlives what was taken.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "common/base/result.h"

namespace farside::agent::hyperv {

inline constexpr std::size_t kIdleMax = 8;  // More are closed when they come back.

template <class T>
class Pool final {
 public:
  using Make = std::function<Result<std::unique_ptr<T>>()>;

  class Lease final {
   public:
    Lease(Pool& pool, std::unique_ptr<T> thing) : pool_(&pool), thing_(std::move(thing)) {}
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (thing_ != nullptr) pool_->give_back(std::move(thing_));
    }
    T& operator*() const { return *thing_; }
    T* operator->() const { return thing_.get(); }

   private:
    Pool* pool_;
    std::unique_ptr<T> thing_;
  };

  explicit Pool(Make make) : make_(std::move(make)) {}

  Result<Lease> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<T> thing = std::move(idle_.back());
        idle_.pop_back();
        return Lease(*this, std::move(thing));
      }
    }
    FARSIDE_ASSIGN(std::unique_ptr<T> made, make_());
    return Lease(*this, std::move(made));
  }

 private:
  void give_back(std::unique_ptr<T> thing) {
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kIdleMax) idle_.push_back(std::move(thing));
  }

  Make make_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> idle_;
};

}  // namespace farside::agent::hyperv
