// One VHDX file, open to write to.
//
// Owns: the file; nobody else may have it open.  Thread: one at a time.
//
// What is promised, whatever happens to the process, the machine or the connection:
//  - what was written before a flush() that returned is there;
//  - of what was written after it, each sector is as it was or as it became;
//  - nothing else ever appears on the disk.
//
// How: contents are written in place, or to space that nothing refers to.  What refers to it (BAT,
// sector bitmaps) changes in memory, until flush() makes it so:
//    1. flush the file:        contents are stable before anything refers to them, and so are the
//                              changes of the metadata of the last time
//    2. write a log entry, flush:              from here on the new state is what a reader sees
//    3. write the metadata in place, not flushed: the log has it until the next time's step 1
// Entries go to the two halves of the log in turn, so that the last one is whole while the next is
// being written; each is a row of its own (its tail is itself), as step 1 has done away with those
// before.  If all does not fit into an entry, steps are repeated in an order in which every state
// in between is a valid one.  Space that was freed is used again only after step 2.
//
// A crash may leave space in the file that nothing refers to.  The next open finds it and uses it.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/base/result.h"
#include "services/agent/platforms/hyperv/vhdx/free_space.h"
#include "services/agent/platforms/hyperv/vhdx/image.h"

namespace farside::agent::vhdx {

// Said by whoever opens a file to write to: no differencing disk has it as its parent.  The first
// write gives the file a new DataWriteGuid, and a child accepts its parent only with the old one:
// writing to a base cuts off all of its children.
struct HasNoChildren {};

class WritableImage final : public Image {
 public:
  // Replays the log, if there is something in it.  Until the first write, nothing else changes.
  // `random` outlives the image.
  // Errors: as Image::open(), kUnsupported (a file without a log).
  static Result<std::unique_ptr<WritableImage>> open(std::unique_ptr<hyperv::ByteFile> file,
                                                     HasNoChildren /*said*/, Random& random);
  // Without close(), this is what a crash would be.
  ~WritableImage() override = default;

  // Offsets and lengths are whole sectors (metadata().logical_sector_bytes): a differencing disk
  // knows nothing smaller.
  // Errors: kInvalidArgument (beyond the disk, or not whole sectors), kConflict (closed, or an
  // earlier error left open what the file holds: open it again), and those of the file.
  Status write_at(std::uint64_t offset, std::string_view bytes);
  // Afterwards the range reads as zeros, also where a parent has something else.  A whole block
  // gives back its space, for other blocks of this file; the file becomes shorter only in close(),
  // by what is free at its end.  A fixed disk keeps all of its blocks, and zeros are written.
  Status zero(std::uint64_t offset, std::uint64_t length);
  Status flush();
  // Flushes, empties the log and gives back the space at the file's end.  Repeating is harmless.
  Status close();

 private:
  WritableImage(std::unique_ptr<hyperv::ByteFile> file, Random& random)
      : Image(std::move(file)), random_(random) {}

  Status replay();
  Status begin();
  Status check_request(std::uint64_t offset, std::uint64_t length) const;
  // Any error in here leaves the image of no use.
  Status guard(Status done);
  Status write_headers(Header header);
  Status write_one_header(Header header);

  Status write_block(std::uint64_t block, std::uint64_t inside, std::string_view bytes);
  Status write_new_block(std::uint64_t block, std::uint64_t inside, std::string_view bytes);
  Status zero_block(std::uint64_t block, std::uint64_t inside, std::uint64_t length);
  Status write_zeros(std::uint64_t file_offset, std::uint64_t length);
  Result<FreeSpace::Place> take(std::uint64_t bytes);
  void set_entry(std::uint64_t index, BatEntry entry);
  Status need_bitmap(std::uint64_t chunk);
  Status mark_present(std::uint64_t block, std::uint64_t inside, std::uint64_t length,
                      bool is_first);

  Status commit_if_much();
  Status commit();
  Status commit_updates(const std::vector<LogUpdate>& updates);
  std::vector<LogUpdate> pending_updates();

  Random& random_;
  FreeSpace space_;
  std::vector<Stretch> released_;        // Free once the BAT that says so is stable.
  std::set<std::uint64_t> changed_bat_;  // Log sectors of it.
  std::set<std::pair<std::uint64_t, std::uint64_t>> changed_bitmaps_;  // Chunk, log sector of it.
  std::set<std::uint64_t> pinned_;                                     // Chunks.
  Guid log_;                        // Of this opening; zero until something was logged.
  std::uint64_t log_sequence_ = 0;  // Of the last entry.
  bool has_begun_ = false;
  bool has_unflushed_ = false;
  bool is_broken_ = false;
  bool is_closed_ = false;
};

}  // namespace farside::agent::vhdx
