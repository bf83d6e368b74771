// Reads the disks of a replica as they were at a recovery point: for each block the newest version
// that is not younger than the point, from a segment or the base disk, verified against its hash.
//
// Owns: open files.  Thread: any, concurrently.
// Works on the agent's live index and, in the process that serves a view, on a frozen copy of it.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/file.h"
#include "common/base/result.h"
#include "common/schema/replica.plain.h"
#include "common/schema/types.plain.h"
#include "common/store/store.h"
#include "services/agent/replica_store/base_disk.h"
#include "services/agent/replica_store/block_hash.h"
#include "services/agent/replica_store/layout.h"

namespace farside::replica {

// Of one reader: a large journal has thousands, and a process only so many descriptors.
inline constexpr std::size_t kOpenSegmentsMax = 64;

struct Version {
  BlockKey key;
  BlockEntry entry;
};

class PointReader final {
 public:
  using OpenBase = std::function<Result<SharedBase>(const std::string& base)>;

  // `index` must outlive the reader.  By default base disks are raw files in the folder.
  PointReader(const store::Reader& index, std::string folder, const msg::StoredReplica& replica,
              const BlockHash& hash, OpenBase open_base = {})
      : index_(index),
        hash_(hash),
        folder_(std::move(folder)),
        disks_(replica.disks),
        base_names_(replica.bases),
        open_base_(std::move(open_base)) {}

  // The version a point sees; empty: zeros.
  Result<std::optional<Version>> find(std::uint16_t disk, std::uint32_t block,
                                      std::uint64_t seq) const;

  // Every block of [first, end) that has a version at `seq`, in order, with that version.
  using Visit = std::function<bool(const Version&)>;
  Status for_each(std::uint16_t disk, std::uint64_t seq, std::uint32_t first, std::uint64_t end,
                  const Visit& visit) const;

  // `plain` is a whole block.  Errors: kCorrupt (does not match its hash), kIo, ...
  Status read_version(const Version& version, std::span<char> plain) const;
  Status read_block(std::uint16_t disk, std::uint32_t block, std::uint64_t seq,
                    std::span<char> plain) const;

  // Any range within the disk as it was at its largest.
  Status read(std::uint16_t disk, std::uint64_t seq, std::uint64_t offset,
              std::span<char> to) const;

  void forget(std::uint32_t segment);  // The file is about to go.

 private:
  Result<std::shared_ptr<const File>> segment(std::uint32_t number) const;
  Result<SharedBase> base(std::uint16_t disk) const;

  const store::Reader& index_;
  BlockHash hash_;
  std::string folder_;
  std::vector<msg::ReplicaDisk> disks_;  // By number, at their largest.
  std::vector<std::string> base_names_;
  OpenBase open_base_;
  struct OpenSegment {
    std::uint32_t number = 0;
    std::shared_ptr<const File> file;  // Whoever reads it keeps it open.
  };
  mutable std::mutex mutex_;                 // What follows; not the files.
  mutable std::list<OpenSegment> segments_;  // Used last comes first.
  mutable std::map<std::uint16_t, SharedBase> bases_;
};

}  // namespace farside::replica
