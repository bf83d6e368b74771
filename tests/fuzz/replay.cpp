// Runs a fuzz target over every file of its corpus and over each of them cut short.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/fuzz/fuzz_target.h"

int main(int argc, char** argv) {
  if (argc != 2 || !std::filesystem::is_directory(argv[1])) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream in(entry.path(), std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    const std::string whole = std::move(out).str();
    ++files;
    const std::size_t step = whole.size() / 64 + 1;
    for (std::size_t size = 0; size <= whole.size(); size += step) {
      // A copy of exactly this size, so that a sanitizer sees a read beyond it.
      const std::string cut = whole.substr(0, size);
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(cut.data()), cut.size());
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(whole.data()), whole.size());
  }
  std::printf("%d files replayed\n", files);
  return files > 0 ? 0 : 1;
}
