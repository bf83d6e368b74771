// VHDX files in a folder of the test's own, and commands that look at them.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "common/base/random.h"
#include "services/agent/platforms/hyperv/vhdx/chain.h"
#include "services/agent/platforms/hyperv/vhdx/layout.h"
#include "services/agent/platforms/hyperv/vhdx/local_file.h"
#include "services/agent/platforms/hyperv/vhdx/new_image.h"
#include "services/agent/platforms/hyperv/vhdx/writable_image.h"
#include "tests/support/temp_folder.h"

namespace farside::agent::vhdx::test {

struct Outcome {
  int status = -1;
  std::string output;
};

inline Outcome run(const std::string& command) {
  Outcome outcome;
  std::FILE* pipe = ::popen(("( " + command + " ) 2>&1").c_str(), "r");
  if (pipe == nullptr) return outcome;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) {
    outcome.output += static_cast<char>(c);
  }
  outcome.status = ::pclose(pipe);
  return outcome;
}

class Disks final {
 public:
  std::string operator/(const std::string& name) const { return folder_ / name; }

  std::unique_ptr<hyperv::ByteFile> open(const std::string& name, LocalFile::Mode mode) const {
    auto file = LocalFile::open(folder_ / name, mode);
    EXPECT_TRUE(file) << to_text(file.error());
    return file ? std::move(*file) : nullptr;
  }
  void create(const std::string& name, const NewImage& image) {
    const Status made = vhdx::create(*open(name, LocalFile::Mode::kCreate), image, random_);
    ASSERT_TRUE(made) << to_text(made.error());
  }
  void create_child(const std::string& name, const std::string& parent, const std::string& relative,
                    const std::string& absolute) {
    const auto image = Image::open(open(parent, LocalFile::Mode::kRead));
    ASSERT_TRUE(image) << to_text(image.error());
    create(name, child_of(**image, relative, absolute));
  }
  // Writes and zeroes at random, into `expected` as well.
  void change(const std::string& name, std::string& expected, int times) {
    auto image =
        WritableImage::open(open(name, LocalFile::Mode::kReadWrite), HasNoChildren{}, random_);
    ASSERT_TRUE(image) << to_text(image.error());
    const std::uint64_t sector = (*image)->metadata().logical_sector_bytes;
    for (int i = 0; i < times; ++i) {
      const std::uint64_t first = random_.below(expected.size() / sector);
      const std::uint64_t most = std::min<std::uint64_t>(random_.chance(0.3) ? 9000 : 40,
                                                         expected.size() / sector - first);
      const std::uint64_t length = (1 + random_.below(most)) * sector;
      std::string bytes(length, '\0');
      const bool is_zero = random_.chance(0.2);
      for (std::size_t at = 0; !is_zero && at < length; at += 8) store(bytes, at, random_.next());
      const Status done = is_zero ? (*image)->zero(first * sector, length)
                                  : (*image)->write_at(first * sector, bytes);
      ASSERT_TRUE(done) << to_text(done.error());
      expected.replace(first * sector, length, bytes);
    }
    const Status closed = (*image)->close();
    ASSERT_TRUE(closed) << to_text(closed.error());
  }
  // Without parents.
  std::string contents(const std::string& name) const {
    const auto chain = Chain::open(open(name, LocalFile::Mode::kRead), [](const ParentLocator&) {
      return Result<std::unique_ptr<hyperv::ByteFile>>(fail(ErrorCode::kNotFound, "no parents"));
    });
    EXPECT_TRUE(chain) << to_text(chain.error());
    if (!chain) return {};
    std::string out((*chain)->disk_bytes(), '?');
    const Status read = (*chain)->read_at(0, out);
    EXPECT_TRUE(read) << to_text(read.error());
    return out;
  }
  std::string raw(const std::string& name) const {
    std::ostringstream out;
    out << std::ifstream(folder_ / name, std::ios::binary).rdbuf();
    return std::move(out).str();
  }
  void write_raw(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
  }

 private:
  farside::test::TempFolder folder_;
  SeededRandom random_{11};
};

}  // namespace farside::agent::vhdx::test
