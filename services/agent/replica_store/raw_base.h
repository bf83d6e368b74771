// Base disks as raw, sparse files in the replica's folder: <folder>/base-<disk>.raw
#pragma once

#include "services/agent/replica_store/base_disk.h"

namespace farside::replica {

std::string base_path(const std::string& folder, const std::string& disk);

class RawBases final : public BaseDisks {
 public:
  Result<SharedBase> open(const std::string& folder, const std::string& disk) override;
  Result<SharedBase> create(const std::string& folder, const std::string& disk,
                            std::uint64_t bytes) override;
  Status remove(const std::string& folder) override;  // They go with the folder.
  Status remove_disk(const std::string& folder, const std::string& disk) override;
  Result<bool> may_change(const std::string& /*folder*/, bool /*is_pinned*/) override {
    return true;
  }

  // For a reader in another process, like that of a view: it is there, and is not written to.
  static Result<SharedBase> open_to_read(const std::string& folder, const std::string& disk);
};

// They hold nothing; one is enough for all.
RawBases& raw_bases();

}  // namespace farside::replica
