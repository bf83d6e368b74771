// What an agent does where its configuration says nothing, and which secrets it refuses.
#include "services/agent/host_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/support/temp_folder.h"

namespace farside::agent {
namespace {

using testing::HasSubstr;

class HostSettingsTest : public testing::Test {
 protected:
  HostSettingsTest() {
    std::ofstream(password_) << "correct horse\n";
    ::chmod(password_.c_str(), 0600);
  }

  Result<HostSettings> read(const std::string& hyperv = "", const std::string& smb = "") const {
    FARSIDE_ASSIGN(auto config,
                   Config::from_text("platform = \"hyperv\"\n[hyperv]\n"
                                     "url = \"https://hv1.example.net:5986/wsman\"\n"
                                     "user = 'EXAMPLE\\farside'\nfolder = 'D:\\Farside'\n"
                                     "password_file = '" +
                                         password_ + "'\n" + hyperv + "[hyperv.smb]\n" + smb +
                                         "[[hyperv.share]]\nfolder = 'D:\\Farside'\n"
                                         "name = \"farside\"\n",
                                     "agent.toml"));
    FARSIDE_ASSIGN(auto settings, read_host_settings(config, "hv1", folder_.path()));
    FARSIDE_TRY(config.finish());
    return settings;
  }

  const test::TempFolder folder_;
  const std::string password_ = folder_ / "password";
  const SystemClock clock_;
};

TEST_F(HostSettingsTest, NothingIsSaidInClearNorByNtlmUnlessItIsAskedFor) {
  const auto settings = read();

  ASSERT_TRUE(settings) << to_text(settings.error());
  EXPECT_TRUE(settings->hyperv.smb.encrypt);
  EXPECT_TRUE(settings->hyperv.smb.sign);
  EXPECT_EQ(settings->hyperv.access.login.mechanism, wsman::Mechanism::kKerberos);
}

TEST_F(HostSettingsTest, WhatIsAskedForIsDone) {
  const auto ntlm = read("mechanism = \"ntlm\"\n", "encrypt = false\n");
  const auto any = read("mechanism = \"any\"\n");
  const auto wrong = read("mechanism = \"digest\"\n");

  ASSERT_TRUE(ntlm) << to_text(ntlm.error());
  EXPECT_FALSE(ntlm->hyperv.smb.encrypt);
  EXPECT_EQ(ntlm->hyperv.access.login.mechanism, wsman::Mechanism::kNtlm);
  ASSERT_TRUE(any);
  EXPECT_EQ(any->hyperv.access.login.mechanism, wsman::Mechanism::kKerberosOrNtlm);
  EXPECT_FALSE(wrong);
}

TEST_F(HostSettingsTest, APasswordOrKeyThatOthersCanReadIsRefused) {
  ::chmod(password_.c_str(), 0644);
  const auto password = open_host(*read(), clock_);
  ::chmod(password_.c_str(), 0600);
  std::ofstream(folder_ / "hv1.key") << "a key\n";
  ::chmod((folder_ / "hv1.key").c_str(), 0640);
  const auto key = open_host(*read("key_file = '" + (folder_ / "hv1.key") + "'\n"), clock_);

  ASSERT_FALSE(password);
  EXPECT_EQ(password.error().code, ErrorCode::kForbidden);
  EXPECT_THAT(password.error().what, HasSubstr("password file '" + password_ + "'"));
  EXPECT_THAT(password.error().advice, HasSubstr("chmod 600 " + password_));
  ASSERT_FALSE(key);
  EXPECT_EQ(key.error().code, ErrorCode::kForbidden);
  EXPECT_THAT(key.error().what, HasSubstr("hv1.key"));
}

}  // namespace
}  // namespace farside::agent
