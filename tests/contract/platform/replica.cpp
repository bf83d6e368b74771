#include "tests/contract/platform/replica.h"

#include <algorithm>
#include <cstring>

namespace farside::agent {
namespace {

constexpr std::uint64_t kReadBytes = 1U << 20U;
constexpr int kReadsAtOnce = 8;
constexpr int kPollsMax = 600;
constexpr int kPollMs = 100;

class View final : public guest::Image {
 public:
  explicit View(const std::vector<char>& bytes) : bytes_(bytes) {}
  std::uint64_t bytes() const override { return bytes_.size(); }
  Status read(std::uint64_t offset, std::span<std::byte> to) override {
    if (offset + to.size() > bytes_.size()) return fail(ErrorCode::kInvalidArgument, "outside");
    std::memcpy(to.data(), bytes_.data() + offset, to.size());
    return {};
  }

 private:
  const std::vector<char>& bytes_;
};

}  // namespace

bool is_well_formed(const std::vector<Extent>& extents, std::uint64_t disk_bytes) {
  std::uint64_t end = 0;
  for (const Extent& extent : extents) {
    if (extent.offset < end || extent.length == 0) return false;
    if (extent.offset % 512 != 0 || extent.length % 512 != 0) return false;
    end = extent.offset + extent.length;
  }
  return end <= disk_bytes;
}

Result<std::uint64_t> Replica::apply(FrozenDisk& from, const std::vector<Extent>& extents,
                                     Bytes& to) {
  if (!is_well_formed(extents, from.bytes())) {
    return fail(ErrorCode::kInternal, "the extents of " + from.name() + " are not well-formed");
  }
  std::uint64_t total = 0;
  int under_way = 0;
  Status failed;
  const auto wait_until = [&](int at_most) -> Status {
    for (int i = 0; under_way > at_most; ++i) {
      if (i == kPollsMax) return fail(ErrorCode::kTimeout, "reads do not end");
      FARSIDE_TRY(from.poll(kPollMs));
    }
    return failed;
  };
  for (const Extent& extent : extents) {
    total += extent.length;
    if (extent.zero) {
      std::memset(to.data() + extent.offset, 0, extent.length);
      continue;
    }
    for (std::uint64_t at = 0; at < extent.length; at += kReadBytes) {
      FARSIDE_TRY(wait_until(kReadsAtOnce - 1));
      ++under_way;
      const std::uint64_t offset = extent.offset + at;
      FARSIDE_TRY(from.read_async(offset, std::min(kReadBytes, extent.length - at),
                                  to.data() + offset, [&](Status status) {
                                    --under_way;
                                    if (!status) failed = std::move(status);
                                  }));
    }
  }
  FARSIDE_TRY(wait_until(0));
  return total;
}

Result<std::uint64_t> Replica::apply_changes(Point& point) {
  disks_.resize(point.disks().size());
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < disks_.size(); ++i) {
    FrozenDisk& disk = *point.disks()[i];
    disks_[i].resize(disk.bytes());
    FARSIDE_ASSIGN(const auto extents, disk.changes());
    FARSIDE_ASSIGN(const std::uint64_t bytes, apply(disk, extents, disks_[i]));
    total += bytes;
  }
  return total;
}

Result<std::uint64_t> Replica::copy_all(Point& point) {
  disks_.clear();
  disks_.resize(point.disks().size());
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < disks_.size(); ++i) {
    FrozenDisk& disk = *point.disks()[i];
    disks_[i].resize(disk.bytes());
    FARSIDE_ASSIGN(const auto extents, disk.allocated());
    FARSIDE_ASSIGN(const std::uint64_t bytes, apply(disk, extents, disks_[i]));
    total += bytes;
  }
  return total;
}

Result<guest::Verdict> Replica::check(const guest::CheckOptions& options) const {
  std::vector<std::unique_ptr<guest::Image>> images;
  for (const Bytes& disk : disks_) images.push_back(std::make_unique<View>(disk));
  return guest::check(images, options);
}

}  // namespace farside::agent
