#include "tests/support/guest/checker.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "tests/support/guest/record.h"

namespace farside::guest {
namespace {

constexpr std::size_t kChunkBlocks = 256;

struct Slot {
  enum class State : std::uint8_t { kZero, kValid, kTorn };
  State state = State::kZero;
  Record record;
  std::uint32_t digest = 0;
};

class Check {
 public:
  Check(std::span<const std::unique_ptr<Image>> disks, const CheckOptions& options)
      : disks_(disks), options_(options) {}

  Result<Verdict> run() {
    FARSIDE_ASSIGN(const bool has_history, read_headers());
    if (has_history) {
      FARSIDE_TRY(read_records());
      find_newest();
      check_slots();
      check_chain();
      if (options_.fill) FARSIDE_TRY(check_fill());
    }
    if (options_.acknowledged && verdict_.newest < *options_.acknowledged) {
      problem(fmt::format("record {} was acknowledged, but the newest here is {}",
                          *options_.acknowledged, verdict_.newest));
    }
    verdict_.ok = verdict_.problems.empty();
    return std::move(verdict_);
  }

 private:
  void problem(std::string text) {
    if (verdict_.problems.size() < kListMax) verdict_.problems.push_back(std::move(text));
  }

  static void note(std::vector<std::uint64_t>& list, std::uint64_t seq) {
    if (list.size() < kListMax) list.push_back(seq);
  }

  // True if there are records to look at.
  Result<bool> read_headers() {
    if (disks_.empty()) {
      problem("no disks were given");
      return false;
    }
    verdict_.per_disk.assign(disks_.size(), 0);
    std::size_t prepared = 0;
    for (std::size_t i = 0; i < disks_.size(); ++i) {
      Block block;
      if (disks_[i]->bytes() < kBlockBytes) {
        problem(fmt::format("disk {} is too small", i));
        continue;
      }
      FARSIDE_TRY(disks_[i]->read(0, block));
      const auto header = decode_header(block);
      if (!header) {
        if (!is_zero(block)) problem(fmt::format("disk {} has a broken header", i));
        continue;
      }
      Header wanted = prepared == 0 ? *header : header_;
      wanted.disk = static_cast<std::uint32_t>(i);
      if (*header != wanted || header->disks != disks_.size()) {
        problem(fmt::format("disk {} is disk {} of {} of run {:x}: not what belongs here", i,
                            header->disk, header->disks, header->run));
      }
      if (i != prepared) problem(fmt::format("disk {} is prepared, but one before it is not", i));
      if (disks_[i]->bytes() < header->end()) {
        problem(fmt::format("disk {} is shorter than its header says", i));
      }
      header_ = *header;
      ++prepared;
    }
    verdict_.run = header_.run;
    verdict_.blank = prepared == 0;
    if (verdict_.blank && !options_.blank_is_ok) problem("no witness has written on these disks");
    // A guest stopped between its first header and its last has not begun to write records.
    if (prepared < disks_.size() && !verdict_.blank && !options_.blank_is_ok) {
      problem(fmt::format("only {} of {} disks are prepared", prepared, disks_.size()));
    }
    return verdict_.problems.empty() && prepared == disks_.size();
  }

  Status read_records() {
    slots_.assign(disks_.size(), std::vector<Slot>(header_.slots));
    std::vector<Block> chunk(kChunkBlocks);
    for (std::size_t disk = 0; disk < disks_.size(); ++disk) {
      for (std::size_t first = 0; first < header_.slots; first += kChunkBlocks) {
        const std::size_t blocks = std::min<std::size_t>(kChunkBlocks, header_.slots - first);
        FARSIDE_TRY(disks_[disk]->read(kRecordsOffset + first * kBlockBytes,
                                       {chunk.data()->data(), blocks * kBlockBytes}));
        for (std::size_t i = 0; i < blocks; ++i) take(disk, first + i, chunk[i]);
      }
    }
    return {};
  }

  void take(std::size_t disk, std::size_t index, const Block& block) {
    Slot& slot = slots_[disk][index];
    if (is_zero(block)) return;
    const auto record = decode_record(block);
    if (!record) {
      slot.state = Slot::State::kTorn;
      if (torn_.size() < kListMax) torn_[{disk, index}] = block;
      return;
    }
    slot = Slot{.state = Slot::State::kValid, .record = *record, .digest = digest_of(block)};
    const bool in_place = record->run == header_.run && record->seq > 0 && record->disk == disk &&
                          disk_of(header_, record->seq) == disk && index_of(record->seq) == index;
    if (in_place) return;
    slot.state = Slot::State::kTorn;
    problem(fmt::format("disk {} slot {} holds record {} of disk {} of run {:x}", disk, index,
                        record->seq, record->disk, record->run));
  }

  std::size_t index_of(std::uint64_t seq) const {
    return static_cast<std::size_t>((offset_of(header_, seq) - kRecordsOffset) / kBlockBytes);
  }

  const Slot& slot_of(std::uint64_t seq) const {
    return slots_[disk_of(header_, seq)][index_of(seq)];
  }

  bool holds(std::uint64_t seq) const {
    const Slot& slot = slot_of(seq);
    return slot.state == Slot::State::kValid && slot.record.seq == seq;
  }

  void find_newest() {
    for (std::size_t disk = 0; disk < slots_.size(); ++disk) {
      for (const Slot& slot : slots_[disk]) {
        if (slot.state != Slot::State::kValid) continue;
        verdict_.per_disk[disk] = std::max(verdict_.per_disk[disk], slot.record.seq);
      }
      verdict_.newest = std::max(verdict_.newest, verdict_.per_disk[disk]);
    }
    const std::uint64_t window = std::uint64_t{header_.disks} * header_.slots;
    if (verdict_.newest > 0) {
      verdict_.oldest = verdict_.newest < window ? 1 : verdict_.newest - window + 1;
    }
  }

  void check_slots() {
    const std::uint64_t window = std::uint64_t{header_.disks} * header_.slots;
    const std::uint64_t next = verdict_.newest + 1;
    for (std::uint64_t seq = next; seq < next + window; ++seq) {
      // Walks through every slot once, oldest content first.
      const std::uint64_t expected = latest_in_slot(header_, seq, verdict_.newest);
      const Slot& slot = slot_of(seq);
      if (slot.state == Slot::State::kTorn) {
        if (seq == next && is_partial(next, expected)) {
          verdict_.partial = true;
          verdict_.oldest = expected == verdict_.oldest ? expected + 1 : verdict_.oldest;
          continue;
        }
        note(verdict_.torn, expected == 0 ? seq : expected);
        problem(fmt::format("the slot of record {} holds no valid record",
                            expected == 0 ? seq : expected));
      } else if (expected != 0 && !holds(expected)) {
        note(verdict_.missing, expected);
        problem(fmt::format("record {} is missing: its slot holds {}", expected,
                            slot.state == Slot::State::kZero
                                ? "zeros"
                                : fmt::format("record {}", slot.record.seq)));
      } else if (expected == 0 && slot.state == Slot::State::kValid) {
        problem(fmt::format("record {} is in a slot not yet written", slot.record.seq));
      }
    }
  }

  // Every sector of the slot of record `next` is one of that record or of what was there before.
  bool is_partial(std::uint64_t next, std::uint64_t before) const {
    const auto found = torn_.find({disk_of(header_, next), index_of(next)});
    if (found == torn_.end()) return false;
    for (std::size_t i = 0; i < kSectorsPerBlock; ++i) {
      const std::span<const std::byte, kSectorBytes> bytes(found->second.data() + i * kSectorBytes,
                                                           kSectorBytes);
      if (before == 0 && is_zero(bytes)) continue;
      const auto sector = decode_sector(bytes);
      if (!sector || sector->index != i || sector->record.run != header_.run) return false;
      const std::uint64_t seq = sector->record.seq;
      if (seq != next && (seq != before || before == 0)) return false;
      if (seq == next && next > 1 && sector->record.previous != slot_of(next - 1).digest) {
        return false;
      }
    }
    return true;
  }

  void check_chain() {
    if (verdict_.newest == 0) return;
    for (std::uint64_t seq = verdict_.oldest; seq <= verdict_.newest; ++seq) {
      if (!holds(seq)) continue;
      const std::uint32_t previous = slot_of(seq).record.previous;
      const bool is_first = seq == 1;
      if (!is_first && (seq == verdict_.oldest || !holds(seq - 1))) continue;
      if (previous != (is_first ? 0 : slot_of(seq - 1).digest)) {
        problem(fmt::format("record {} does not follow the record {} that is here", seq, seq - 1));
      }
    }
  }

  Status check_fill() {
    std::vector<Block> chunk(kChunkBlocks);
    Block wanted;
    for (std::size_t disk = 0; disk < disks_.size(); ++disk) {
      for (std::uint32_t mib = 0; mib < header_.fill_mib + header_.zero_mib; ++mib) {
        FARSIDE_TRY(disks_[disk]->read(header_.fill_offset() + (std::uint64_t{mib} << 20U),
                                       {chunk.data()->data(), kChunkBlocks * kBlockBytes}));
        for (std::size_t i = 0; i < kChunkBlocks; ++i) {
          wanted.fill(std::byte{0});
          if (mib < header_.fill_mib) {
            encode_fill(header_.run, static_cast<std::uint32_t>(disk), mib * kChunkBlocks + i,
                        wanted);
          }
          if (chunk[i] == wanted) continue;
          problem(fmt::format("disk {}: the fill differs in MiB {}", disk, mib));
          break;
        }
      }
    }
    return {};
  }

  std::span<const std::unique_ptr<Image>> disks_;
  const CheckOptions& options_;
  Header header_;
  Verdict verdict_;
  std::vector<std::vector<Slot>> slots_;
  std::map<std::pair<std::size_t, std::size_t>, Block> torn_;
};

}  // namespace

Result<Verdict> check(std::span<const std::unique_ptr<Image>> disks, const CheckOptions& options) {
  return Check(disks, options).run();
}

std::string to_json(const Verdict& verdict) {
  nlohmann::ordered_json disks = nlohmann::ordered_json::array();
  for (const std::uint64_t newest : verdict.per_disk) disks.push_back({{"newest", newest}});
  return nlohmann::ordered_json{{"ok", verdict.ok},
                                {"newest", verdict.newest},
                                {"oldest", verdict.oldest},
                                {"partial", verdict.partial},
                                {"blank", verdict.blank},
                                {"run", fmt::format("{:016x}", verdict.run)},
                                {"missing", verdict.missing},
                                {"torn", verdict.torn},
                                {"disks", disks},
                                {"problems", verdict.problems}}
      .dump(2);
}

}  // namespace farside::guest
