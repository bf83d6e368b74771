// A file on a disk whose power fails: after so many calls or flushes every further one fails, and
// of what was not flushed any part may be there or not, in pieces and in any order.
//
// Thread: one at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "tests/support/memory_file.h"

namespace farside::test {

class FailingDisk final {
 public:
  FailingDisk(Bytes stable, SeededRandom& random)
      : stable_(stable), seen_(std::move(stable)), random_(random) {}

  void fail_after(std::uint64_t calls) { calls_left_ = calls; }
  void fail_after_flushes(std::uint64_t flushes) { flushes_left_ = flushes; }
  bool has_failed() const { return has_failed_; }
  std::unique_ptr<agent::hyperv::ByteFile> open() { return std::make_unique<File>(*this); }

  // What is left when the power is back.
  const Bytes& restart() {
    // How much of it is lost differs from crash to crash: nothing, all and in between.
    const double kept = static_cast<double>(random_.below(11)) / 10;
    const bool by_calls = random_.chance(0.5);  // Or by sectors.
    std::vector<Change> pieces;
    for (const Change& change : unflushed_) {
      if (change.truncate_to || by_calls) {
        pieces.push_back(change);
        continue;
      }
      for (std::size_t at = 0; at < change.bytes.size();) {
        const std::uint64_t offset = change.offset + at;
        const std::size_t part =
            std::min<std::size_t>(change.bytes.size() - at, kSectorBytes - offset % kSectorBytes);
        pieces.push_back({.offset = offset, .bytes = change.bytes.substr(at, part)});
        at += part;
      }
    }
    if (random_.chance(0.5)) {
      for (std::size_t i = pieces.size(); i > 1; --i) {
        std::swap(pieces[i - 1], pieces[random_.below(i)]);
      }
    }
    for (const Change& piece : pieces) {
      if (!random_.chance(kept)) continue;
      apply(piece, stable_);
    }
    unflushed_.clear();
    seen_ = stable_;
    calls_left_.reset();
    flushes_left_.reset();
    has_failed_ = false;
    return stable_;
  }

 private:
  static constexpr std::size_t kSectorBytes = 512;
  struct Change {
    std::uint64_t offset = 0;
    std::string bytes = {};
    std::optional<std::uint64_t> truncate_to = {};
  };

  static void apply(const Change& change, Bytes& to) {
    if (change.truncate_to) {
      to.truncate(*change.truncate_to);
    } else {
      to.write(change.offset, change.bytes);
    }
  }
  Status count() {
    if (has_failed_ || (calls_left_ && *calls_left_ == 0)) {
      has_failed_ = true;
      return fail(ErrorCode::kUnavailable, "no power");
    }
    if (calls_left_) --*calls_left_;
    return {};
  }
  Status change(Change made) {
    const Status counted = count();
    // The call under way when the power fails may have had its effect, or a part of it.
    apply(made, seen_);
    unflushed_.push_back(std::move(made));
    return counted;
  }

  class File final : public agent::hyperv::ByteFile {
   public:
    explicit File(FailingDisk& disk) : disk_(disk) {}

    Result<std::uint64_t> size() override { return disk_.seen_.size(); }
    Status read_at(std::uint64_t offset, std::span<char> to) override {
      if (disk_.has_failed_) return fail(ErrorCode::kUnavailable, "no power");
      if (disk_.seen_.read(offset, to)) return {};
      return fail(ErrorCode::kCorrupt, "beyond the end");
    }
    Status write_at(std::uint64_t offset, std::string_view bytes) override {
      if (disk_.has_failed_) return disk_.count();
      return disk_.change({.offset = offset, .bytes = std::string(bytes)});
    }
    Status truncate(std::uint64_t bytes) override {
      if (disk_.has_failed_) return disk_.count();
      return disk_.change({.truncate_to = bytes});
    }
    Status flush() override {
      if (disk_.flushes_left_ && *disk_.flushes_left_ == 0) disk_.has_failed_ = true;
      FARSIDE_TRY(disk_.count());
      if (disk_.flushes_left_) --*disk_.flushes_left_;
      for (const Change& change : disk_.unflushed_) apply(change, disk_.stable_);
      disk_.unflushed_.clear();
      return {};
    }

   private:
    FailingDisk& disk_;
  };

  Bytes stable_;
  Bytes seen_;
  std::vector<Change> unflushed_;
  SeededRandom& random_;
  std::optional<std::uint64_t> calls_left_;
  std::optional<std::uint64_t> flushes_left_;
  bool has_failed_ = false;
};

}  // namespace farside::test
