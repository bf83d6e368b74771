// A file in memory that takes room only for what was written to it.
//
// Thread: one at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "services/agent/platforms/hyperv/byte_file.h"

namespace farside::test {

// What the file holds; outlives whoever has it open, as on a disk.
class Bytes final {
 public:
  static constexpr std::uint64_t kPageBytes = 4096;

  std::uint64_t size() const { return size_; }

  bool read(std::uint64_t offset, std::span<char> to) const {
    if (offset > size_ || to.size() > size_ - offset) return false;
    for_pages(offset, to.size(),
              [&](std::uint64_t page, std::uint64_t at, std::uint64_t done, std::uint64_t part) {
                const auto found = pages_.find(page);
                if (found == pages_.end()) {
                  std::memset(to.data() + done, 0, part);
                } else {
                  std::memcpy(to.data() + done, found->second.data() + at, part);
                }
              });
    return true;
  }
  std::string read(std::uint64_t offset, std::uint64_t length) const {
    std::string out(length, '\0');
    if (!read(offset, std::span<char>(out))) std::abort();
    return out;
  }
  void write(std::uint64_t offset, std::string_view bytes) {
    size_ = std::max(size_, offset + bytes.size());
    for_pages(offset, bytes.size(),
              [&](std::uint64_t page, std::uint64_t at, std::uint64_t done, std::uint64_t part) {
                std::string& to = pages_[page];
                if (to.empty()) to.assign(kPageBytes, '\0');
                std::memcpy(to.data() + at, bytes.data() + done, part);
              });
  }
  void truncate(std::uint64_t bytes) {
    if (bytes < size_) {
      pages_.erase(pages_.lower_bound((bytes + kPageBytes - 1) / kPageBytes), pages_.end());
      const auto last = pages_.find(bytes / kPageBytes);
      if (last != pages_.end()) {
        std::fill(last->second.begin() + static_cast<std::ptrdiff_t>(bytes % kPageBytes),
                  last->second.end(), '\0');
      }
    }
    size_ = bytes;
  }

 private:
  static void for_pages(std::uint64_t offset, std::uint64_t length, const auto& act) {
    for (std::uint64_t done = 0; done < length;) {
      const std::uint64_t at = (offset + done) % kPageBytes;
      const std::uint64_t part = std::min(length - done, kPageBytes - at);
      act((offset + done) / kPageBytes, at, done, part);
      done += part;
    }
  }

  std::uint64_t size_ = 0;
  std::map<std::uint64_t, std::string> pages_;
};

class MemoryFile final : public agent::hyperv::ByteFile {
 public:
  explicit MemoryFile(Bytes& bytes) : bytes_(bytes) {}

  Result<std::uint64_t> size() override { return bytes_.size(); }
  Status read_at(std::uint64_t offset, std::span<char> to) override {
    if (bytes_.read(offset, to)) return {};
    return fail(ErrorCode::kCorrupt, "the file ends before " + std::to_string(offset + to.size()));
  }
  Status write_at(std::uint64_t offset, std::string_view bytes) override {
    bytes_.write(offset, bytes);
    return {};
  }
  Status truncate(std::uint64_t bytes) override {
    bytes_.truncate(bytes);
    return {};
  }
  Status flush() override { return {}; }

 private:
  Bytes& bytes_;
};

inline std::unique_ptr<MemoryFile> open(Bytes& bytes) {
  return std::make_unique<MemoryFile>(bytes);
}

}  // namespace farside::test
