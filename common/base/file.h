// A file descriptor with an owner, and system calls that speak our errors.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/result.h"

namespace farside {

class File final {
 public:
  File() = default;
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~File();

  // Errors of all of these: those of from_errno(), naming the file.
  static Result<File> open_to_read(const std::string& path);
  static Result<File> open_to_write(const std::string& path);  // Reads too; created if absent.

  Status read_at(std::uint64_t offset, std::span<char> to) const;  // kCorrupt: the file ends early.
  Status write_at(std::uint64_t offset, std::string_view bytes) const;
  Status punch(std::uint64_t offset, std::uint64_t length) const;  // Reads as zeros afterwards.
  Status truncate(std::uint64_t bytes) const;
  Status allocate(std::uint64_t bytes) const;  // From its beginning, on the volume.
  Status sync() const;
  void forget_cache() const;   // The kernel may use the memory of what was synced.
  Result<File> again() const;  // A second descriptor of the same open file.
  Result<std::uint64_t> size() const;

  bool is_open() const { return fd_ >= 0; }
  const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  std::string path_;
};

Status sync_folder(const std::string& path);   // Makes names that were added or removed durable.
Status make_folders(const std::string& path);  // With its parents, all of them durable.
std::uint64_t free_bytes(const std::string& path);  // 0 if unknown: then nothing is written.
std::uint64_t used_bytes(const std::string& path);  // On the volume, without holes; 0 if unknown.

// kNotFound, kNoSpace, kForbidden; kIo: the volume lost what it had; kUnavailable: anything else,
// which may pass (a volume that is away, no descriptor or memory left).
Error from_errno(int number, const std::string& doing);

// Of this process, to what it may have; what it starts inherits that.
void raise_open_files_limit();

// Written next to it, synced and renamed: afterwards the file is whole, old or new.
Status replace_file(const std::string& path, std::string_view bytes);
Result<std::string> read_file(const std::string& path);

}  // namespace farside
