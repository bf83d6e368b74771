// One base disk as a VHDX file on the host, open only while it is read or written: a VM that is to
// stand on it needs it closed.
//
// Owns: the file, while it is open.  Thread: any.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "common/base/random.h"
#include "services/agent/platforms/hyperv/shares.h"
#include "services/agent/platforms/hyperv/vhdx/writable_image.h"
#include "services/agent/replica_store/base_disk.h"

namespace farside::agent::hyperv {

class VhdxBase final : public replica::BaseDisk {
 public:
  // Both outlive it.
  VhdxBase(Shares& shares, Random& random, std::string path)
      : shares_(shares), random_(random), path_(std::move(path)) {}
  ~VhdxBase() override;

  Status read_at(std::uint64_t offset, std::span<char> to) override;
  Status write_at(std::uint64_t offset, std::string_view bytes) override;
  Status punch(std::uint64_t offset, std::uint64_t length) override;
  Status sync() override;
  std::uint64_t used_bytes() override;

  Result<std::uint64_t> disk_bytes();
  // Everything is on stable storage and the file closed; the next use opens it again.
  Status release();

 private:
  // All below: the mutex is held.
  Result<vhdx::Image*> to_read();
  Result<vhdx::WritableImage*> to_write();
  Status close();

  Shares& shares_;
  Random& random_;
  const std::string path_;
  std::mutex mutex_;
  // At most one of them.
  std::unique_ptr<vhdx::Image> reader_;
  std::unique_ptr<vhdx::WritableImage> writer_;
};

// Reads from a file that has no parent.
Status read_image(vhdx::Image& image, std::uint64_t offset, std::span<char> to);

}  // namespace farside::agent::hyperv
