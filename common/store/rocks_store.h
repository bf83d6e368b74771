// A store on disk: RocksDB, synced at every commit.
//
// Owns: the folder it is opened on; one process at a time may have it open for writing.
// Thread: commit() one at a time; get() and scan() from any.
// Layout: one key space; a key is   column '\0' key   so that a column needs no set-up and all
// columns share one log and one sync.  Column names are ours and hold no zero byte.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "common/store/store.h"

namespace farside::store {

class RocksStore final : public Store {
 public:
  enum class Mode { kReadWrite, kReadOnly };

  struct Tuning {  // Memory per open store; a host has one store per replica.
    std::size_t write_buffer_bytes = std::size_t{16} << 20U;
    std::size_t cache_bytes = std::size_t{16} << 20U;
  };

  // Creates the folder and its parents unless read-only.  Errors: kConflict (another process has it
  // open), kCorrupt, kNoSpace, kForbidden, kNotFound (read-only), kIo.
  static Result<std::unique_ptr<RocksStore>> open(const std::string& folder,
                                                  Mode mode = Mode::kReadWrite);
  static Result<std::unique_ptr<RocksStore>> open(const std::string& folder, Mode mode,
                                                  const Tuning& tuning);
  ~RocksStore() override;

  Result<std::optional<std::string>> get(std::string_view column,
                                         std::string_view key) const override;
  Status scan(std::string_view column, std::string_view prefix, std::string_view from,
              const Visitor& visit) const override;

  // After an error the state on disk is that of before or, rarely, of after this batch: close and
  // open again to know.
  Status commit(const Batch& batch) override;

  // A frozen copy of everything committed, made of hard links; `folder` must not exist.  It can be
  // opened by another process while this one goes on.
  Status checkpoint(const std::string& folder) const;

 private:
  struct Impl;
  explicit RocksStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::store
