// What a shipment notes of the hashes of its blocks (hash_file.h), and the digest of a point by it.
//
// A fault of the file costs the hashes, never the delta: they are then dropped, and read anew when
// a digest is wanted while the VM may run.
//
// Owns: the file.  Thread: one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "services/agent/data_plane/hash_file.h"
#include "services/agent/data_plane/pending_map.h"
#include "services/agent/platforms/platform.h"

namespace farside::data {

struct Progress;

class KeptHashes final {
 public:
  KeptHashes(std::string path, agent::Point& point);

  // Before anything of the delta is noted elsewhere.  `last_attempt` is that of the attempt which
  // this one resumes, or empty: what is kept must be of it, of its delta or of the delta's base.
  void begin(const Pending& delta, const std::string& last_attempt,
             const std::vector<PendingDisk>& changed);
  // Nothing was known before, and everything that is no zero is set: a comparison.
  void begin_whole(const std::string& cycle);
  // What was begun builds on another point: the last attempt did become one.
  void rebase(const std::string& cycle, const std::string& base);

  // Of the replica, known once it is open and before any hash is set.
  void use_key(const std::string& key);

  void set(std::size_t disk, std::uint64_t first, std::span<const std::uint64_t> hashes);
  void set_zero(std::size_t disk, const BlockSet& blocks);
  void finish(const std::string& attempt);

 private:
  template <class Step>
  void step(const Step& step);
  void drop(const Error& cause);

  std::string path_;
  agent::Point& point_;
  std::optional<HashFile> file_;
};

struct DigestRequest {
  std::string attempt;                   // Token of the point, which was just shipped.
  std::string hash_key{};                // Of the replica that it was shipped to.
  std::optional<std::uint64_t> reads{};  // At most so many blocks are read; none: all if need be.
  std::stop_token stop{};
};

// What Item::verify() says of a point with this content.  Blocks whose hashes are not kept are
// read.  Errors: kConflict (more than request.reads would have to be), kCancelled, those of disks.
Result<std::string> digest_by(const std::string& path, agent::Point& point,
                              const DigestRequest& request,
                              const std::function<void(const Progress&)>& on_progress);

}  // namespace farside::data
