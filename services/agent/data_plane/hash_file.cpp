#include "services/agent/data_plane/hash_file.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "services/agent/replica_store/block.h"
#include "services/agent/replica_store/layout.h"

namespace farside::data {
namespace {

using replica::BlockSet;
using replica::Sum;

constexpr std::uint64_t kHeadBytes = 65'536;
constexpr std::uint64_t kFrameBytes = 16;  // Hash and length.
constexpr std::uint64_t kUnknown = 0;      // As a hash.
constexpr std::size_t kPart = 8192;        // Hashes that are read or written at once.

Sum sum_of(const msg::HashedDisk& disk) {
  return {.high = disk.sum_high, .low = disk.sum_low};
}

// A hash comes into the account of its disk, or leaves it.
void account(msg::HashedDisk& disk, std::uint64_t block, std::uint64_t hash, bool comes) {
  if (hash == kUnknown) {
    disk.unknown += comes ? 1 : std::uint64_t{0} - 1;
    return;
  }
  Sum sum = sum_of(disk);
  comes ? sum += replica::term_of(block, hash) : sum -= replica::term_of(block, hash);
  disk.sum_high = sum.high;
  disk.sum_low = sum.low;
}

std::string_view bytes_of(std::span<const std::uint64_t> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

Result<msg::StoredHashes> head_of(const File& file) {
  const Error broken{.code = ErrorCode::kCorrupt, .what = file.path() + " has a damaged head"};
  std::string head(kHeadBytes, '\0');
  FARSIDE_TRY(file.read_at(0, head));
  const std::uint64_t length = replica::number_at(head, 8, 8);
  if (length > kHeadBytes - kFrameBytes) return fail(broken);
  const std::string_view rest = std::string_view(head).substr(8, 8 + length);
  if (replica::hash_of(rest) != replica::number_at(head, 0, 8)) return fail(broken);
  FARSIDE_ASSIGN(auto stored, msg::decode<msg::StoredHashes>(rest.substr(8)));
  return stored;
}

}  // namespace

std::uint64_t HashFile::place_of(std::size_t disk, std::uint64_t block) const {
  std::uint64_t blocks = block;
  for (std::size_t i = 0; i < disk; ++i) blocks += replica::blocks_of(head_.disks[i].bytes);
  return kHeadBytes + blocks * sizeof(std::uint64_t);
}

Result<HashFile> HashFile::open(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return fail(ErrorCode::kNotFound, "no hashes are kept in " + path);
  }
  HashFile out;
  FARSIDE_ASSIGN(out.file_, File::open_to_write(path));
  FARSIDE_ASSIGN(out.head_, head_of(out.file_));
  FARSIDE_ASSIGN(const std::uint64_t size, out.file_.size());
  if (size != out.place_of(out.head_.disks.size(), 0)) {
    return fail(ErrorCode::kCorrupt, path + " has a wrong size");
  }
  if (out.head_.cycle.empty()) return out;
  for (std::size_t disk = 0; disk < out.head_.disks.size(); ++disk) {
    FARSIDE_ASSIGN(out.head_.disks[disk], out.added_up(disk));
  }
  return out;
}

Result<HashFile> HashFile::create(const std::string& path, std::string cycle,
                                  std::vector<msg::HashedDisk> disks) {
  FARSIDE_TRY(make_folders(std::filesystem::path(path).parent_path().string()));
  HashFile out;
  FARSIDE_ASSIGN(out.file_, File::open_to_write(path));
  FARSIDE_TRY(out.file_.truncate(0));
  out.head_ = {.point = {}, .cycle = std::move(cycle), .disks = std::move(disks), .key = {}};
  for (msg::HashedDisk& disk : out.head_.disks) disk.sum_high = disk.sum_low = disk.unknown = 0;
  FARSIDE_TRY(out.file_.truncate(out.place_of(out.head_.disks.size(), 0)));
  FARSIDE_TRY(out.save_head());
  FARSIDE_TRY(sync_folder(std::filesystem::path(path).parent_path().string()));
  return out;
}

bool HashFile::fits(const std::vector<msg::HashedDisk>& disks) const {
  return std::ranges::equal(head_.disks, disks, [](const auto& one, const auto& other) {
    return one.name == other.name && one.id == other.id && one.bytes == other.bytes;
  });
}

std::uint64_t HashFile::unknown() const {
  std::uint64_t out = 0;
  for (const msg::HashedDisk& disk : head_.disks) out += disk.unknown;
  return out;
}

std::vector<replica::SummedDisk> HashFile::sums() const {
  std::vector<replica::SummedDisk> out;
  for (const msg::HashedDisk& disk : head_.disks) {
    out.push_back({.name = disk.name, .bytes = disk.bytes, .sum = sum_of(disk)});
  }
  return out;
}

Status HashFile::save_head() {
  const std::string body = encode(head_);
  if (body.size() > kHeadBytes - kFrameBytes) {
    return fail(ErrorCode::kTooLarge, "the VM has too many disks to keep their hashes");
  }
  const std::string rest = replica::number_key(body.size(), 8) + body;
  FARSIDE_TRY(file_.write_at(0, replica::number_key(replica::hash_of(rest), 8) + rest));
  return file_.sync();
}

Status HashFile::use_key(std::string key) {
  head_.key = std::move(key);
  return save_head();
}

Status HashFile::begin(std::string cycle, std::string point) {
  head_.cycle = std::move(cycle);
  head_.point = std::move(point);
  return save_head();
}

Status HashFile::finish(std::string point) {
  FARSIDE_TRY(file_.sync());
  return begin({}, std::move(point));
}

Status HashFile::set(std::size_t disk, std::uint64_t first, std::span<const std::uint64_t> hashes) {
  FARSIDE_ASSERT(disk < head_.disks.size());
  if (first + hashes.size() > replica::blocks_of(head_.disks[disk].bytes)) {
    return fail(ErrorCode::kInvalidArgument, "no such blocks");
  }
  std::vector<std::uint64_t> old(std::min(hashes.size(), kPart));
  std::vector<std::uint64_t> stored(old.size());
  for (std::size_t at = 0; at < hashes.size(); at += kPart) {
    const auto part = hashes.subspan(at, std::min(kPart, hashes.size() - at));
    old.resize(part.size());
    stored.resize(part.size());
    const std::uint64_t place = place_of(disk, first + at);
    FARSIDE_TRY(file_.read_at(place, {reinterpret_cast<char*>(old.data()), old.size() * 8}));
    for (std::size_t i = 0; i < part.size(); ++i) stored[i] = part[i] ^ replica::zero_hash();
    FARSIDE_TRY(file_.write_at(place, bytes_of(stored)));
    for (std::size_t i = 0; i < part.size(); ++i) {
      account(head_.disks[disk], first + at + i, old[i] ^ replica::zero_hash(), false);
      account(head_.disks[disk], first + at + i, part[i], true);
    }
  }
  return {};
}

Status HashFile::set_all(std::size_t disk, const BlockSet& blocks, std::uint64_t hash) {
  std::vector<std::uint64_t> hashes;
  for (auto first = blocks.next(0); first;) {
    std::uint64_t end = *first + 1;
    while (end - *first < kPart && blocks.has(end)) ++end;
    hashes.assign(end - *first, hash);
    FARSIDE_TRY(set(disk, *first, hashes));
    first = blocks.next(end);
  }
  return {};
}

Status HashFile::mark_unknown(std::size_t disk, const BlockSet& blocks) {
  return set_all(disk, blocks, kUnknown);
}

Status HashFile::set_zero(std::size_t disk, const BlockSet& blocks) {
  return set_all(disk, blocks, replica::zero_hash());
}

Status HashFile::for_each(std::size_t disk, const Visit& visit) const {
  const std::uint64_t blocks = replica::blocks_of(head_.disks[disk].bytes);
  std::vector<std::uint64_t> part;
  for (std::uint64_t first = 0; first < blocks; first += part.size()) {
    part.resize(std::min<std::uint64_t>(kPart, blocks - first));
    FARSIDE_TRY(file_.read_at(place_of(disk, first),
                              {reinterpret_cast<char*>(part.data()), part.size() * 8}));
    for (std::uint64_t& value : part) value ^= replica::zero_hash();
    visit(first, part);
  }
  return {};
}

Result<msg::HashedDisk> HashFile::added_up(std::size_t disk) const {
  msg::HashedDisk out = head_.disks[disk];
  out.sum_high = out.sum_low = out.unknown = 0;
  FARSIDE_TRY(for_each(disk, [&](std::uint64_t first, std::span<const std::uint64_t> hashes) {
    for (std::size_t i = 0; i < hashes.size(); ++i) account(out, first + i, hashes[i], true);
  }));
  return out;
}

Result<bool> HashFile::is_sound() const {
  for (std::size_t disk = 0; disk < head_.disks.size(); ++disk) {
    FARSIDE_ASSIGN(const msg::HashedDisk found, added_up(disk));
    if (!(found == head_.disks[disk])) return false;
  }
  return true;
}

Result<BlockSet> HashFile::unknown_in(std::size_t disk) const {
  BlockSet out(replica::blocks_of(head_.disks[disk].bytes));
  if (head_.disks[disk].unknown == 0) return out;
  FARSIDE_TRY(for_each(disk, [&](std::uint64_t first, std::span<const std::uint64_t> hashes) {
    for (std::size_t i = 0; i < hashes.size(); ++i) {
      if (hashes[i] == kUnknown) out.add(first + i);
    }
  }));
  return out;
}

}  // namespace farside::data
