#include "common/store/rocks_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "common/base/assert.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/store/wal_check.h"

namespace farside::store {
namespace {

std::string full_key(std::string_view column, std::string_view key) {
  FARSIDE_ASSERT(column.find('\0') == std::string_view::npos);
  std::string out;
  out.reserve(column.size() + 1 + key.size());
  out += column;
  out += '\0';
  out += key;
  return out;
}

// The smallest key beyond all that start with `prefix`; a prefix holds at least the column.
std::string after(std::string prefix) {
  while (static_cast<unsigned char>(prefix.back()) == 0xff) prefix.pop_back();
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

Status to_status(const rocksdb::Status& status, const std::string& doing) {
  if (status.ok()) return {};
  const std::string why = doing + ": " + status.ToString();
  if (status.IsNoSpace() || why.find("No space left") != std::string::npos) {
    return fail(ErrorCode::kNoSpace, why, "free space on the volume; nothing was lost");
  }
  if (why.find("lock") != std::string::npos && (status.IsIOError() || status.IsBusy())) {
    return fail(ErrorCode::kConflict, doing + ": the folder is locked by another process",
                "stop the other process that uses this folder, or give this one its own");
  }
  if (status.IsCorruption()) {
    return fail(ErrorCode::kCorrupt, why, "check the volume; restore the folder from a backup");
  }
  if (why.find("Permission denied") != std::string::npos) {
    return fail(ErrorCode::kForbidden, why, "let the service's user own the folder");
  }
  if (why.find("No such file") != std::string::npos ||
      why.find("does not exist") != std::string::npos) {
    return fail(ErrorCode::kNotFound, why);
  }
  return fail(ErrorCode::kIo, why, "check the volume and the system's log");
}

rocksdb::Slice slice(const std::string& bytes) {
  return {bytes.data(), bytes.size()};
}

// RocksDB's own words go to our log, its warnings and errors only.  Its usual LOG file lies on the
// store's volume, and once that is full the next line written to it aborts the process (an assert
// of WritableFileWriter, which Debian's build has on).
class OurLog final : public rocksdb::Logger {
 public:
  explicit OurLog(std::string folder) : Logger(rocksdb::WARN_LEVEL), folder_(std::move(folder)) {}

  using Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    std::array<char, 512> line{};
    std::vsnprintf(line.data(), line.size(), format, arguments);
    log::warn("store", {{"folder", folder_}, {"said", line.data()}});
  }
  void LogHeader(const char*, va_list) override {}  // All options, at every start.

 private:
  const std::string folder_;
};

rocksdb::Options options_for(RocksStore::Mode mode, const RocksStore::Tuning& tuning) {
  rocksdb::Options options;
  options.create_if_missing = mode == RocksStore::Mode::kReadWrite;
  options.write_buffer_size = tuning.write_buffer_bytes;
  options.max_open_files = 128;
  options.max_background_jobs = 2;
  options.paranoid_checks = true;
  // What check_wal() let pass ends with a torn record at worst: that one alone is dropped.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(tuning.cache_bytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

}  // namespace

struct RocksStore::Impl {
  std::string folder;
  std::unique_ptr<rocksdb::DB> db;
};

RocksStore::RocksStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RocksStore::~RocksStore() = default;

Result<std::unique_ptr<RocksStore>> RocksStore::open(const std::string& folder, Mode mode) {
  return open(folder, mode, Tuning());
}

Result<std::unique_ptr<RocksStore>> RocksStore::open(const std::string& folder, Mode mode,
                                                     const Tuning& tuning) {
  const std::string doing = "open store " + folder;
  if (mode == Mode::kReadWrite) {
    if (auto made = make_folders(folder); !made) {
      auto why = made.error().in(doing);
      why.advice = "create the folder for the service's user";
      return fail(std::move(why));
    }
    FARSIDE_TRY(check_wal(folder));
  }
  rocksdb::DB* db = nullptr;
  rocksdb::Options options = options_for(mode, tuning);
  options.info_log = std::make_shared<OurLog>(folder);
  FARSIDE_TRY(to_status(mode == Mode::kReadWrite
                            ? rocksdb::DB::Open(options, folder, &db)
                            : rocksdb::DB::OpenForReadOnly(options, folder, &db),
                        doing));
  auto impl = std::make_unique<Impl>();
  impl->folder = folder;
  impl->db.reset(db);
  return std::unique_ptr<RocksStore>(new RocksStore(std::move(impl)));
}

Result<std::optional<std::string>> RocksStore::get(std::string_view column,
                                                   std::string_view key) const {
  std::string value;
  const rocksdb::Status status =
      impl_->db->Get(rocksdb::ReadOptions(), slice(full_key(column, key)), &value);
  if (status.IsNotFound()) return std::nullopt;
  FARSIDE_TRY(to_status(status, "read from store " + impl_->folder));
  return value;
}

Status RocksStore::scan(std::string_view column, std::string_view prefix, std::string_view from,
                        const Visitor& visit) const {
  const std::string begin = full_key(column, std::max(prefix, from));
  const std::string end = after(full_key(column, prefix));
  const rocksdb::Slice bound = slice(end);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &bound;
  const std::unique_ptr<rocksdb::Iterator> it(impl_->db->NewIterator(options));
  const std::size_t skip = column.size() + 1;
  for (it->Seek(slice(begin)); it->Valid(); it->Next()) {
    const std::string_view key(it->key().data() + skip, it->key().size() - skip);
    if (!visit(key, {it->value().data(), it->value().size()})) break;
  }
  return to_status(it->status(), "scan store " + impl_->folder);
}

Status RocksStore::commit(const Batch& batch) {
  rocksdb::WriteBatch out;
  for (const Batch::Operation& operation : batch.operations()) {
    const std::string key = full_key(operation.column, operation.key);
    const rocksdb::Status planned =
        operation.value ? out.Put(slice(key), slice(*operation.value)) : out.Delete(slice(key));
    FARSIDE_TRY(to_status(planned, "plan a batch for store " + impl_->folder));
  }
  rocksdb::WriteOptions options;
  options.sync = true;  // An ack promises survival of power loss, not only of a process crash.
  return to_status(impl_->db->Write(options, &out), "commit to store " + impl_->folder);
}

Status RocksStore::checkpoint(const std::string& folder) const {
  const std::string doing = "checkpoint store " + impl_->folder + " to " + folder;
  rocksdb::Checkpoint* made = nullptr;
  FARSIDE_TRY(to_status(rocksdb::Checkpoint::Create(impl_->db.get(), &made), doing));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  return to_status(checkpoint->CreateCheckpoint(folder), doing);
}

}  // namespace farside::store
