#include "common/wsman/disk_changes.h"

#include <fmt/format.h>

#include <algorithm>

namespace farside::wsman {
namespace {

// Its changes, one for each sector at worst, fit into the smallest envelope that hosts allow.
constexpr std::uint64_t kWindowBytesMin = std::uint64_t{64} << 10U;
constexpr std::uint64_t kFailed = 32768;

// "Failed" is what the host says of a disk whose changes it has not tracked since that point.
bool means_tracking_lost(const Error& error) {
  return error.code == ErrorCode::kTrackingLost ||
         (error.code == ErrorCode::kPlatform && error.what.contains(fmt::format("({})", kFailed)));
}

std::unexpected<Error> nonsense(const ChangesQuestion& question, const std::string& why) {
  return fail(ErrorCode::kCorrupt, fmt::format("changes of '{}': {}", question.path, why));
}

struct Window {
  std::vector<ChangedRange> ranges;
  std::uint64_t processed = 0;
};

Result<Window> read_window(const Instance& output, const ChangesQuestion& question,
                           std::uint64_t offset, std::uint64_t bytes) {
  FARSIDE_ASSIGN(const std::vector<std::uint64_t> offsets, output.numbers("ChangedByteOffsets"));
  FARSIDE_ASSIGN(const std::vector<std::uint64_t> lengths, output.numbers("ChangedByteLengths"));
  Window window;
  FARSIDE_ASSIGN(window.processed, output.number("ProcessedByteLength"));
  if (offsets.size() != lengths.size()) return nonsense(question, "offsets without lengths");
  if (window.processed == 0) return nonsense(question, "no progress");
  window.processed = std::min(window.processed, bytes);
  std::uint64_t end = offset;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    if (offsets[i] < end || offsets[i] > question.disk_bytes ||
        lengths[i] > question.disk_bytes - offsets[i]) {
      return nonsense(question, fmt::format("range {}+{}", offsets[i], lengths[i]));
    }
    end = offsets[i] + lengths[i];
    window.ranges.push_back({.offset = offsets[i], .bytes = lengths[i]});
  }
  return window;
}

void append(std::vector<ChangedRange>& all, const ChangedRange& range) {
  if (range.bytes == 0) return;
  // A range may reach over the window that it was found in, and be told again by the next one.
  if (!all.empty() && range.offset <= all.back().offset + all.back().bytes) {
    const std::uint64_t end =
        std::max(all.back().offset + all.back().bytes, range.offset + range.bytes);
    all.back().bytes = end - all.back().offset;
    return;
  }
  all.push_back(range);
}

}  // namespace

Result<std::vector<ChangedRange>> changed_ranges(Client& client, const ChangesQuestion& question,
                                                 const JobWait& wait) {
  std::vector<ChangedRange> all;
  std::uint64_t offset = 0;
  std::uint64_t window_bytes = question.disk_bytes;
  while (offset < question.disk_bytes) {
    const std::uint64_t bytes = std::min(window_bytes, question.disk_bytes - offset);
    const auto outcome =
        call(client, service("Msvm_ImageManagementService"), "GetVirtualDiskChanges",
             {{"Path", Value::text(question.path)},
              {"LimitId", Value::text(question.since)},
              {"TargetSnapshotId", Value::text("")},
              {"ByteOffset", Value::u64(offset)},
              {"ByteLength", Value::u64(bytes)}},
             wait);
    if (!outcome) {
      const Error error = outcome.error().in("changes of '" + question.path + "'");
      if (error.code == ErrorCode::kTooLarge && bytes > kWindowBytesMin) {
        window_bytes = std::max(kWindowBytesMin, bytes / 2);
        continue;
      }
      if (means_tracking_lost(error)) return fail(ErrorCode::kTrackingLost, error.what);
      return fail(error);
    }
    if (outcome->had_job && outcome->output.at("ProcessedByteLength").is_null()) {
      return fail(ErrorCode::kPlatform,
                  "changes of '" + question.path + "': the host answered by a job, without ranges",
                  "report the version of this host; it does what no known one does");
    }
    FARSIDE_ASSIGN(const Window window, read_window(outcome->output, question, offset, bytes));
    for (const ChangedRange& range : window.ranges) append(all, range);
    offset += window.processed;
  }
  return all;
}

}  // namespace farside::wsman
