#include "services/agent/replica_store/raw_base.h"

#include <filesystem>

#include "common/base/file.h"

namespace farside::replica {
namespace {

class RawBase final : public BaseDisk {
 public:
  explicit RawBase(File file) : file_(std::move(file)) {}

  Status read_at(std::uint64_t offset, std::span<char> to) override {
    return file_.read_at(offset, to);
  }
  Status write_at(std::uint64_t offset, std::string_view bytes) override {
    return file_.write_at(offset, bytes);
  }
  Status punch(std::uint64_t offset, std::uint64_t length) override {
    return file_.punch(offset, length);
  }
  Status sync() override {
    FARSIDE_TRY(file_.sync());
    file_.forget_cache();
    return {};
  }
  std::uint64_t used_bytes() override { return farside::used_bytes(file_.path()); }

 private:
  File file_;
};

}  // namespace

std::string base_path(const std::string& folder, const std::string& disk) {
  return folder + "/base-" + disk + ".raw";
}

Result<SharedBase> RawBases::open(const std::string& folder, const std::string& disk) {
  FARSIDE_TRY(open_to_read(folder, disk));  // It must be there already.
  FARSIDE_ASSIGN(File file, File::open_to_write(base_path(folder, disk)));
  return std::make_shared<RawBase>(std::move(file));
}

Result<SharedBase> RawBases::create(const std::string& folder, const std::string& disk,
                                    std::uint64_t bytes) {
  FARSIDE_ASSIGN(File file, File::open_to_write(base_path(folder, disk)));
  FARSIDE_ASSIGN(const std::uint64_t now, file.size());
  if (now < bytes) {
    FARSIDE_TRY(file.truncate(bytes));
    FARSIDE_TRY(file.sync());
  }
  return std::make_shared<RawBase>(std::move(file));
}

Status RawBases::remove(const std::string& /*folder*/) {
  return {};
}

Status RawBases::remove_disk(const std::string& folder, const std::string& disk) {
  std::error_code error;
  std::filesystem::remove(base_path(folder, disk), error);
  if (error) return fail(from_errno(error.value(), "remove " + base_path(folder, disk)));
  return {};
}

Result<SharedBase> RawBases::open_to_read(const std::string& folder, const std::string& disk) {
  FARSIDE_ASSIGN(File file, File::open_to_read(base_path(folder, disk)));
  return std::make_shared<RawBase>(std::move(file));
}

RawBases& raw_bases() {
  static RawBases bases;
  return bases;
}

}  // namespace farside::replica
