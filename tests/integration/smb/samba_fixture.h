// A real smbd with a few shares, and a client of it.
//
// Owns: the server with its folders.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include "services/agent/platforms/hyperv/smb/share.h"
#include "tests/support/samba/samba_server.h"

namespace farside::agent::smb {

class SambaFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = test::SambaServer::why_not(); !why.empty()) GTEST_SKIP() << why;
    std::filesystem::create_directory(folder_ / "vms");
    std::filesystem::create_directory(folder_ / "guarded");
    // Shares are entered as those they are served as.
    ::chmod(folder_.path().c_str(), 0755);
    ::chmod((folder_ / "guarded").c_str(), 0777);
    auto server = test::SambaServer::start(
        {.shares = {{.name = "vms", .folder = folder_ / "vms"},
                    {.name = "guarded", .folder = folder_ / "guarded", .as_user = "nobody"},
                    {.name = "closed",
                     .folder = folder_ / "vms",
                     .more = {"valid users = nobody"}}},
         .more = more_});
    ASSERT_TRUE(server) << to_text(server.error());
    server_ = std::move(*server);
  }

  ShareOptions options(const std::string& share = "vms") const {
    return {.server = "127.0.0.1",
            .port = server_->port(),
            .share = share,
            .domain = server_->options().domain,
            .user = server_->options().user,
            .password = server_->options().password,
            .program = FARSIDE_SMB};
  }

  // Bytes that tell their place, so that a mix-up shows.
  static std::string pattern(std::size_t size, std::uint64_t seed = 1) {
    std::string bytes(size, '\0');
    std::uint64_t state = seed * 0x9e3779b97f4a7c15ULL;
    for (std::size_t i = 0; i + 8 <= size; i += 8) {
      state ^= state << 13U;
      state ^= state >> 7U;
      state ^= state << 17U;
      bytes.replace(i, 8, reinterpret_cast<const char*>(&state), 8);
    }
    return bytes;
  }
  void put(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
  }
  std::string get(const std::string& name) const {
    std::ifstream in(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  std::vector<std::string> more_;  // Further lines of the server's settings.
  test::TempFolder folder_;
  std::unique_ptr<test::SambaServer> server_;
};

}  // namespace farside::agent::smb
