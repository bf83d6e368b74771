// A segment file after a crash, or from a failing disk, is checked without trusting a byte of it.
#include "services/agent/replica_store/segment.h"

#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int kFile = ::memfd_create("segment", MFD_CLOEXEC);
  static const std::string kPath = "/proc/self/fd/" + std::to_string(kFile);
  FARSIDE_ASSERT(kFile >= 0);
  FARSIDE_ASSERT(::ftruncate(kFile, 0) == 0);
  FARSIDE_ASSERT(::pwrite(kFile, data, size, 0) == static_cast<ssize_t>(size));

  const auto check = farside::replica::check_segment(kPath);

  if (check) {
    FARSIDE_ASSERT(check->bytes <= check->file_bytes);
    FARSIDE_ASSERT(check->file_bytes == size);
    FARSIDE_ASSERT(check->problem.empty() == (check->bytes == check->file_bytes));
  }
  return 0;
}
