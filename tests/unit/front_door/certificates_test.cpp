#include "services/vault/front_door/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace farside::front_door {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kDay = 24LL * 60 * 60 * 1'000'000;

class HandClock final : public Clock {
 public:
  Time now() const override { return at; }
  Micros monotonic() const override { return Micros{at.micros}; }
  Time at{1'900'000'000'000'000};
};

class CertificatesTest : public testing::Test {
 protected:
  CertificatesTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tls-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    folder_ = root_ + "/tls";
  }
  ~CertificatesTest() override { std::filesystem::remove_all(root_); }

  Result<ServerCertificate> prepare(const std::vector<std::string>& names = {}) {
    return prepare_certificate(folder_, names, clock_);
  }
  std::string text(const std::string& name) const {
    std::ifstream in(folder_ + "/" + name);
    std::ostringstream out;
    out << in.rdbuf();
    return std::move(out).str();
  }

  HandClock clock_;
  std::string root_;
  std::string folder_;
};

TEST_F(CertificatesTest, TheFirstStartMakesThemAndTheNextKeepsThem) {
  const auto first = prepare();
  ASSERT_TRUE(first) << first.error().what;
  const std::string ca = text("ca.pem");
  const std::string server = text("server.pem");

  const auto second = prepare();

  ASSERT_TRUE(second) << second.error().what;
  EXPECT_TRUE(first->renewed);
  EXPECT_FALSE(second->renewed);
  EXPECT_EQ(text("ca.pem"), ca);
  EXPECT_EQ(text("server.pem"), server);
  EXPECT_EQ(first->ca_fingerprint, second->ca_fingerprint);
  EXPECT_EQ(first->ca_fingerprint.size(), 64u);
}

TEST_F(CertificatesTest, PrivateKeysAreTheOwnersAlone) {
  ASSERT_TRUE(prepare());
  for (const char* name : {"ca.key", "server.key"}) {
    struct stat facts{};
    ASSERT_EQ(::stat((folder_ + "/" + name).c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777U, 0600U) << name;
  }

  ::chmod((folder_ + "/server.key").c_str(), 0644);
  const auto again = prepare();

  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kForbidden);
  EXPECT_THAT(again.error().advice, HasSubstr("chmod 600"));
}

TEST_F(CertificatesTest, TheServersIsRenewedNearItsEndByTheSameAuthority) {
  const auto first = prepare();
  ASSERT_TRUE(first);

  clock_.at = Time{first->expires.micros - 31 * kDay};
  const auto early = prepare();
  clock_.at = Time{first->expires.micros - 29 * kDay};
  const auto late = prepare();

  ASSERT_TRUE(early);
  EXPECT_FALSE(early->renewed);
  ASSERT_TRUE(late);
  EXPECT_TRUE(late->renewed);
  EXPECT_GT(late->expires, first->expires);
  EXPECT_EQ(late->ca_fingerprint, first->ca_fingerprint);
}

TEST_F(CertificatesTest, NewNamesAreANewCertificate) {
  ASSERT_TRUE(prepare());

  const auto named = prepare({"vault.example.com", "192.0.2.7"});
  const auto again = prepare({"192.0.2.7", "vault.example.com"});

  ASSERT_TRUE(named) << named.error().what;
  EXPECT_TRUE(named->renewed);
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->renewed);
}

TEST_F(CertificatesTest, ADamagedServerPairIsMadeAgain) {
  ASSERT_TRUE(prepare());
  std::ofstream(folder_ + "/server.pem", std::ios::trunc) << "-----BEGIN CERT";

  const auto again = prepare();

  ASSERT_TRUE(again) << again.error().what;
  EXPECT_TRUE(again->renewed);
}

TEST_F(CertificatesTest, ADamagedAuthorityIsNeverReplacedSilently) {
  ASSERT_TRUE(prepare());
  const std::string ca = text("ca.pem");

  std::filesystem::rename(folder_ + "/ca.key", folder_ + "/ca.key.away");
  const auto without_key = prepare();
  std::filesystem::rename(folder_ + "/ca.key.away", folder_ + "/ca.key");
  std::ofstream(folder_ + "/ca.pem", std::ios::trunc) << ca.substr(0, ca.size() / 2);
  const auto cut = prepare();

  ASSERT_FALSE(without_key);
  EXPECT_EQ(without_key.error().code, ErrorCode::kCorrupt);
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(cut.error().advice, HasSubstr("backup"));
}

TEST_F(CertificatesTest, AnExpiredAuthorityIsAnErrorThatSaysWhatToDo) {
  ASSERT_TRUE(prepare());
  clock_.at = Time{clock_.at.micros + 3650 * kDay};

  const auto late = prepare();

  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kExpired);
  EXPECT_THAT(late.error().advice, HasSubstr("ca.pem"));
}

TEST_F(CertificatesTest, ANameThatIsNoneIsRefused) {
  const auto bad = prepare({"vault,DNS:evil"});

  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace farside::front_door
