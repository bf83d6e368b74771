// The base disks of replicas: what holds a disk's oldest kept state, block by block.
//
// Usually raw files beside the index (raw_base.h).  A platform whose hosts can boot from nothing
// but their own storage keeps them there, in the form its hosts read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::replica {

// One base disk.  Thread: any; reads and writes of different blocks may run at once.
class BaseDisk {
 public:
  virtual ~BaseDisk() = default;

  // Errors of all of these: kNotFound, kNoSpace, kForbidden, kUnavailable, kConflict (in use by a
  // VM), kIo, naming the file.
  virtual Status read_at(std::uint64_t offset, std::span<char> to) = 0;
  virtual Status write_at(std::uint64_t offset, std::string_view bytes) = 0;
  virtual Status punch(std::uint64_t offset, std::uint64_t length) = 0;  // Reads as zeros then.
  virtual Status sync() = 0;               // What was written before survives loss of power.
  virtual std::uint64_t used_bytes() = 0;  // On its volume; 0 if unknown.
};

// The store writes, a reader reads and a thread syncs one: whoever is last closes it.
using SharedBase = std::shared_ptr<BaseDisk>;

// Where they lie.  Thread: any.
class BaseDisks {
 public:
  virtual ~BaseDisks() = default;

  // The base of `disk` of the replica in `folder`.  Errors: those above; kNotFound if it is gone.
  virtual Result<SharedBase> open(const std::string& folder, const std::string& disk) = 0;
  // The same, made with `bytes` of zeros if it is not there, and grown to them if it is smaller.
  virtual Result<SharedBase> create(const std::string& folder, const std::string& disk,
                                    std::uint64_t bytes) = 0;
  // Removes all that belong to the replica, but for those that a VM has taken over.  None is fine.
  virtual Status remove(const std::string& folder) = 0;
  // One of them, that nobody has open.  None is fine.
  virtual Status remove_disk(const std::string& folder, const std::string& disk) = 0;
  // Whether those of the replica may be written to now.  If not, consolidation waits.
  virtual Result<bool> may_change(const std::string& folder, bool is_pinned) = 0;
  // Whether VMs read them without the index.
  virtual bool are_read_directly() const { return false; }
};

}  // namespace farside::replica
