// A VM whose disks are in memory, with change tracking as a platform offers it: points are frozen
// copies, tokens remember them, changes are what differs since a token.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "services/agent/platforms/platform.h"

namespace farside::test {

inline constexpr std::uint64_t kCluster = 4096;  // Granularity of tracking; finer than a block.

class MemoryDisk final : public agent::FrozenDisk {
 public:
  MemoryDisk(std::string name, std::string now, const std::string* since)
      : name_(std::move(name)), now_(std::move(now)) {
    for (std::uint64_t at = 0; at < now_.size(); at += kCluster) {
      const std::uint64_t length = std::min<std::uint64_t>(kCluster, now_.size() - at);
      const bool zero = std::string_view(now_).substr(at, length).find_first_not_of('\0') ==
                        std::string_view::npos;
      if (!zero) add(allocated_, at, length, false);
      if (since == nullptr) {
        if (!zero) add(changes_, at, length, false);
      } else if (at >= since->size() || now_.compare(at, length, *since, at, length) != 0) {
        add(changes_, at, length, zero);
      }
    }
  }

  const std::string& name() const override { return name_; }
  const std::string& id() const override { return identity; }
  std::uint64_t bytes() const override { return now_.size(); }
  Result<std::vector<agent::Extent>> changes() override { return changes_; }
  Result<std::vector<agent::Extent>> allocated() override { return allocated_; }

  Status read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) override {
    if (offset + length > now_.size()) return fail(ErrorCode::kInvalidArgument, "outside");
    waiting_.push_back([this, offset, length, to, done = std::move(done)] {
      read_bytes += length;
      if (fails_after_bytes != 0 && read_bytes > fails_after_bytes) {
        done(fail(ErrorCode::kIo, "injected read error"));
        return;
      }
      std::memcpy(to, now_.data() + offset, length);
      done({});
    });
    return {};
  }
  Status poll(int) override {
    for (std::size_t n = waiting_.size(); n > 0; --n) {
      auto next = std::move(waiting_.front());
      waiting_.pop_front();
      next();
    }
    return {};
  }

  std::string identity;
  std::uint64_t read_bytes = 0;
  std::uint64_t fails_after_bytes = 0;  // 0: never.

 private:
  static void add(std::vector<agent::Extent>& list, std::uint64_t at, std::uint64_t length,
                  bool zero) {
    if (!list.empty() && list.back().offset + list.back().length == at &&
        list.back().zero == zero) {
      list.back().length += length;
    } else {
      list.push_back({.offset = at, .length = length, .zero = zero});
    }
  }

  std::string name_;
  std::string now_;
  std::vector<agent::Extent> changes_;
  std::vector<agent::Extent> allocated_;
  std::deque<std::function<void()>> waiting_;
};

class MemoryPoint final : public agent::Point {
 public:
  std::int64_t captured_at_micros() const override { return captured_at; }
  bool is_app_consistent() const override { return false; }
  const std::vector<std::unique_ptr<agent::FrozenDisk>>& disks() override { return disks_; }
  const msg::VmDefinition& definition() const override { return defined; }
  bool is_lost() override { return lost; }
  Status close() override { return {}; }
  Status abandon() override { return {}; }

  MemoryDisk& disk(std::size_t i) { return static_cast<MemoryDisk&>(*disks_[i]); }
  std::uint64_t read_bytes() {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < disks_.size(); ++i) sum += disk(i).read_bytes;
    return sum;
  }

  std::int64_t captured_at = 0;
  bool lost = false;
  msg::VmDefinition defined;
  std::vector<std::unique_ptr<agent::FrozenDisk>> disks_;
};

class MemoryVm final {
 public:
  void add_disk(const std::string& name, std::uint64_t bytes) {
    names_.push_back(name);
    disks.emplace_back(bytes, '\0');
  }
  void write(std::size_t disk, std::uint64_t offset, std::string_view bytes) {
    disks[disk].replace(offset, bytes.size(), bytes);
  }

  // An unknown `since` has no tracking; tests ask for known ones.
  std::unique_ptr<MemoryPoint> point(const std::string& token, const std::string& since) {
    auto out = std::make_unique<MemoryPoint>();
    out->captured_at = ++clock_;
    const auto old = tokens_.find(since);
    for (std::size_t i = 0; i < disks.size(); ++i) {
      const bool tracked = old != tokens_.end() && i < old->second.size();
      out->disks_.push_back(
          std::make_unique<MemoryDisk>(names_[i], disks[i], tracked ? &old->second[i] : nullptr));
    }
    tokens_[token] = disks;
    return out;
  }

  std::vector<std::string> disks;  // Content now.

 private:
  std::vector<std::string> names_;
  std::map<std::string, std::vector<std::string>> tokens_;
  std::int64_t clock_ = 0;
};

}  // namespace farside::test
