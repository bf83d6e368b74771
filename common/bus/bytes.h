// A buffer of known length whose bytes nobody set yet, and a part of a message within one.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace farside::bus {

class Bytes final {
 public:
  Bytes() = default;
  explicit Bytes(std::size_t size)
      : data_(std::make_unique_for_overwrite<char[]>(size)), size_(size) {}
  Bytes(Bytes&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  Bytes& operator=(Bytes&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  std::size_t size() const { return size_; }
  std::span<char> span() { return {data_.get(), size_}; }
  std::string_view view() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<char[]> data_;
  std::size_t size_ = 0;
};

// What follows the first `offset` bytes of a buffer.
struct Part {
  Bytes bytes;
  std::size_t offset = 0;

  std::string_view view() const { return bytes.view().substr(offset); }
  std::span<char> span() { return bytes.span().subspan(offset); }
};

}  // namespace farside::bus
