#include "services/agent/platforms/libvirt/nvram_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_folder.h"

namespace farside::agent::libvirt {
namespace {

// As OVMF's: a header of a volume that fills the file, then variables.
std::string variables(std::size_t bytes = 131'072) {
  std::string out(bytes, '\xff');
  out.replace(0, 16, std::string(16, '\0'));
  out.replace(16, 16,
              std::string("\x8d\x2b\xf1\xff\x96\x76\x8b\x4c\xa9\x85\x27\x47\x07\x5b\x4f\x50", 16));
  for (std::size_t i = 0; i < 8; ++i) out[32 + i] = static_cast<char>(bytes >> (8 * i));
  out.replace(40, 4, "_FVH");
  return out;
}

// Version 2, clusters of 64 KiB: the header, a table of tables, a table, data.
std::string qcow2_of(const std::string& content) {
  constexpr std::size_t kCluster = 65'536;
  std::string out(3 * kCluster, '\0');
  const auto put = [&](std::size_t at, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      out[at + i] = static_cast<char>(value >> (8 * (bytes - 1 - i)));
    }
  };
  out.replace(0, 4, std::string("QFI\xfb", 4));
  put(4, 2, 4);
  put(20, 16, 4);
  put(24, content.size(), 8);
  put(36, 1, 4);
  put(40, kCluster, 8);
  put(kCluster, (std::uint64_t{1} << 63U) | 2 * kCluster, 8);
  put(2 * kCluster, (std::uint64_t{1} << 63U) | 3 * kCluster, 8);
  put(2 * kCluster + 8, (std::uint64_t{1} << 63U) | 4 * kCluster, 8);
  return out + content;
}

class NvramFileTest : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  static ErrorCode refusal(const std::string& path) {
    const auto read = read_nvram(path);
    EXPECT_FALSE(read) << path;
    return read ? ErrorCode::kInternal : read.error().code;
  }

  test::TempFolder folder_;
};

TEST_F(NvramFileTest, VariablesAreReadAsTheyAre) {
  EXPECT_EQ(read_nvram(file("small", variables())), variables());
  EXPECT_EQ(read_nvram(file("large", variables(540'672))), variables(540'672));
  EXPECT_EQ(read_nvram(file("qcow2", qcow2_of(variables()))), qcow2_of(variables()));
  EXPECT_EQ(read_nvram(folder_ / "none yet"), "");
  EXPECT_EQ(read_nvram(file("empty", "")), "");
}

TEST_F(NvramFileTest, WhatTheHostsFirmwareBeginsWithIsTakenForVariables) {
  int seen = 0;
  for (const char* path : {"/usr/share/OVMF/OVMF_VARS.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd",
                           "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"}) {
    if (!std::filesystem::is_regular_file(path)) continue;
    EXPECT_TRUE(read_nvram(path)) << path;
    ++seen;
  }
  if (seen == 0) GTEST_SKIP() << "no OVMF on this host";
}

TEST_F(NvramFileTest, NoOtherFileLeavesTheHost) {
  std::string code = variables();
  code[16] = 'x';  // A volume of something else.
  std::string long_one = variables();
  long_one[35] = 1;  // Of more bytes than the file has.

  EXPECT_EQ(refusal("/etc/passwd"), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(file("noise", std::string(131'072, 's'))), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(file("short", variables().substr(0, 50))), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(file("code", code)), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(file("long", long_one)), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(file("disk", qcow2_of(std::string(131'072, 's')))), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(file("cut", qcow2_of(variables()).substr(0, 65'540))), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(file("large", variables(kNvramBytesMax + 4096))), ErrorCode::kTooLarge);
}

TEST_F(NvramFileTest, ALinkGivesVariablesAndNothingElseAndADeviceNothing) {
  std::filesystem::create_symlink(file("vars", variables()), folder_ / "good");
  std::filesystem::create_symlink(file("secret", "root:x:0:0"), folder_ / "link");
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);

  const auto linked = read_nvram(folder_ / "good");
  ASSERT_TRUE(linked);
  EXPECT_EQ(*linked, variables());
  EXPECT_EQ(refusal(folder_ / "link"), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(folder_ / "pipe"), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal("/dev/zero"), ErrorCode::kUnsupported);
  EXPECT_EQ(refusal(folder_.path()), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace farside::agent::libvirt
