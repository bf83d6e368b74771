// A site from a simulated VMM server, which runs as a process of its own.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "services/provider/vmm/winrm.h"
#include "tests/integration/wsman/hvsim_process.h"

namespace farside::provider::vmm {
namespace {

using hvsim::HvsimProcess;

const SystemClock kClock;
SystemRandom kRandom;

class VmmTest : public ::testing::Test {
 protected:
  VmmTest() {
    for (const auto& file : std::filesystem::directory_iterator(VMM_SITE)) {
      std::filesystem::copy(file.path(), folder_.path());
    }
    write("password", std::string(hvsim::kPassword) + "\n");
    host_ = std::make_unique<HvsimProcess>(std::vector<std::string>{"--vmm", folder_.path()});
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    if (name == "password") ::chmod((folder_ / name).c_str(), 0600);
  }
  RunScripts scripts_by(const std::string& url) const {
    return by_winrm({.url = url,
                     .user = std::string("HVSIM\\") + hvsim::kUser,
                     .password_file = folder_ / "password",
                     .ca_file = host_->ca_file(),
                     .fingerprint = {},
                     .mechanism = wsman::Mechanism::kNtlm},
                    kClock, kRandom);
  }
  Result<msg::SiteDefinition> read_once() const {
    return VmmSource(scripts_by(host_->https_url()), "", std::chrono::seconds{60}, kClock).read();
  }

  test::TempFolder folder_;
  std::unique_ptr<HvsimProcess> host_;
};

TEST_F(VmmTest, TheSiteIsReadOverHttpsAndOverSealedHttp) {
  write("map.toml",
        "[[network]]\nname = \"Servers\"\nhost_network = \"LogicalSwitch\"\n"
        "[[storage_class]]\nname = \"Fast\"\npath = 'D:\\replicas'\n");
  for (const std::string& url : {host_->https_url(), host_->http_url()}) {
    VmmSource source(scripts_by(url), folder_ / "map.toml", std::chrono::seconds{60}, kClock);

    const auto site = source.read();

    ASSERT_TRUE(site) << to_text(site.error());
    ASSERT_EQ(site->clouds.size(), 2u);
    EXPECT_EQ(site->clouds[0].networks, std::vector<std::string>{"Servers"});
    ASSERT_EQ(site->networks.size(), 2u);
    EXPECT_EQ(site->networks[0].host_network, "LogicalSwitch");
    EXPECT_EQ(site->networks[1].name, "Zürich");
    ASSERT_EQ(site->storage.size(), 1u);
    EXPECT_EQ(site->storage[0].path, "D:\\replicas");
  }
}

TEST_F(VmmTest, ShellsAreClosedAlsoAfterFailures) {
  for (int round = 0; round < 4; ++round) EXPECT_TRUE(read_once());
  write("pools.error", "Get-SCStaticIPAddressPool : You cannot contact the VMM server.\r\n");
  for (int round = 0; round < 4; ++round) {
    const auto site = read_once();
    ASSERT_FALSE(site);
    EXPECT_EQ(site.error().code, ErrorCode::kPlatform);
    EXPECT_NE(site.error().what.find("pools"), std::string::npos) << site.error().what;
    EXPECT_NE(site.error().what.find("cannot contact"), std::string::npos) << site.error().what;
  }
  std::filesystem::remove(folder_ / "pools.error");

  const auto site = read_once();

  EXPECT_TRUE(site) << to_text(site.error());
}

TEST_F(VmmTest, AnAnswerOfManyPiecesIsPutTogether) {
  std::string hosts;
  for (int i = 0; i < 500; ++i) {
    hosts += (i > 0 ? "," : "") +
             (R"({"name":"HV)" + std::to_string(i) + R"(","group":"All Hosts\\Test"})");
  }
  write("hosts.json", "[" + hosts + "]");

  const auto site = read_once();

  ASSERT_TRUE(site) << to_text(site.error());
  EXPECT_EQ(site->host_groups[0].hosts.size(), 500u);
}

TEST_F(VmmTest, WhatIsWrongIsTold) {
  write("clouds.json", "WARNING: something\r\n[]");
  const auto not_json = read_once();
  ASSERT_FALSE(not_json);
  EXPECT_EQ(not_json.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(not_json.error().what.find("clouds is not JSON"), std::string::npos);

  write("password", "wrong\n");
  const auto refused = read_once();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnauthorized) << to_text(refused.error());

  ::chmod((folder_ / "password").c_str(), 0640);
  const auto open_to_others = read_once();
  ASSERT_FALSE(open_to_others);
  EXPECT_EQ(open_to_others.error().code, ErrorCode::kForbidden);
  EXPECT_NE(open_to_others.error().advice.find("chmod 600"), std::string::npos);

  std::filesystem::remove(folder_ / "password");
  const auto no_password = read_once();
  ASSERT_FALSE(no_password);
  EXPECT_EQ(no_password.error().code, ErrorCode::kNotFound);
}

// What both sides of the wire agree on because one hand wrote them would be found here.
TEST_F(VmmTest, ASecondClientUsesTheShell) {
  const auto run = [](const std::string& command, std::string& output) {
    std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
    if (pipe == nullptr) return -1;
    for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) output += static_cast<char>(c);
    return ::pclose(pipe);
  };
  std::string output;
  if (run("/usr/bin/python3 -c 'import winrm, requests_ntlm'", output) != 0) {
    GTEST_SKIP() << "python3-winrm is not installed";
  }
  output.clear();
  // NTLM takes MD4, which OpenSSL 3 has put aside.
  write("openssl.cnf",
        "openssl_conf = init\n[init]\nproviders = providers\n"
        "[providers]\ndefault = on\nlegacy = on\n[on]\nactivate = 1\n");

  const int status =
      run("OPENSSL_CONF=" + (folder_ / "openssl.cnf") + " timeout 60 /usr/bin/python3 -W ignore " +
              PYWINRM_SHELL + " " + host_->http_url() + " 'HVSIM\\" + hvsim::kUser + "' '" +
              hvsim::kPassword + "'",
          output);

  EXPECT_EQ(status, 0) << output;
  std::ifstream in(folder_ / "clouds.json");
  const std::string clouds{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  EXPECT_EQ(output, clouds);
}

}  // namespace
}  // namespace farside::provider::vmm
