// A file of this machine as a row of bytes.
//
// Owns: the descriptor.  Thread: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "services/agent/platforms/hyperv/byte_file.h"

namespace farside::agent::vhdx {

class LocalFile final : public hyperv::ByteFile {
 public:
  enum class Mode : std::uint8_t { kRead, kReadWrite, kCreate };  // kCreate: must not exist yet.

  // Errors: kNotFound, kAlreadyExists, kForbidden, kIo.
  static Result<std::unique_ptr<LocalFile>> open(const std::string& path, Mode mode);
  ~LocalFile() override;
  LocalFile(const LocalFile&) = delete;
  LocalFile& operator=(const LocalFile&) = delete;

  Result<std::uint64_t> size() override;
  Status read_at(std::uint64_t offset, std::span<char> to) override;
  Status write_at(std::uint64_t offset, std::string_view bytes) override;
  Status truncate(std::uint64_t bytes) override;
  Status flush() override;

 private:
  LocalFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
};

}  // namespace farside::agent::vhdx
