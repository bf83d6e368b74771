// The memory that bodies of requests may take together: taken before the first byte is read.
//
// Thread: any.
#pragma once

#include <atomic>
#include <cstddef>
#include <optional>
#include <utility>

namespace farside::front_door {

class BodyRoom final {
 public:
  class Share final {
   public:
    Share(Share&& other) noexcept
        : room_(std::exchange(other.room_, nullptr)), bytes_(other.bytes_) {}
    Share& operator=(Share&& other) noexcept {
      std::swap(room_, other.room_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Share() {
      if (room_ != nullptr) room_->taken_ -= bytes_;
    }

   private:
    friend class BodyRoom;
    Share(BodyRoom* room, std::size_t bytes) : room_(room), bytes_(bytes) {}
    BodyRoom* room_;  // Null: moved from.
    std::size_t bytes_;
  };

  explicit BodyRoom(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  // nullopt: not now.
  std::optional<Share> take(std::size_t bytes) {
    std::size_t taken = taken_;
    do {
      if (bytes > bytes_max_ || taken > bytes_max_ - bytes) return std::nullopt;
    } while (!taken_.compare_exchange_weak(taken, taken + bytes));
    return Share(this, bytes);
  }

 private:
  const std::size_t bytes_max_;
  std::atomic<std::size_t> taken_ = 0;
};

}  // namespace farside::front_door
