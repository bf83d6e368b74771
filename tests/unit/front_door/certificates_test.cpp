#include "services/vault/front_door/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

namespace farside::front_door {
namespace {

using testing::AllOf;
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

  // What a command says, and how it ends.
  static std::pair<int, std::string> run(const std::string& command) {
    std::string said;
    std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
    if (pipe == nullptr) return {-1, ""};
    for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) said += static_cast<char>(c);
    return {::pclose(pipe), said};
  }
  // "OK", or why not, by OpenSSL's command, at the clock's time.
  std::string verified(const std::string& name) const {
    const auto [status, said] =
        run("openssl verify -attime " + std::to_string(clock_.at.micros / 1'000'000) + " -CAfile " +
            folder_ + "/ca.pem " + folder_ + "/" + name);
    return status == 0 ? "OK" : said;
  }
  // A certificate for `names`, by whoever has the authority's key; returns its file.
  std::string sign(const std::string& names) const {
    const std::string at = folder_ + "/stolen";
    std::ofstream(at + ".ext") << "subjectAltName=" << names << "\nbasicConstraints=CA:FALSE\n";
    const auto [status, said] =
        run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /O=x -keyout " +
            at + ".key -out " + at + ".csr && openssl x509 -req -days 20000 -in " + at +
            ".csr -CA " + folder_ + "/ca.pem -CAkey " + folder_ +
            "/ca.key -CAcreateserial -extfile " + at + ".ext -out " + at + ".pem");
    EXPECT_EQ(status, 0) << said;
    return "stolen.pem";
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

TEST_F(CertificatesTest, OtherNamesAreANewCertificate) {
  ASSERT_TRUE(prepare({"vault.example.com", "192.0.2.7", "2001:DB8::7", "*.dr.example.com"}));

  const auto named = prepare({"vault.example.com", "192.0.2.7"});
  const auto again = prepare({"192.0.2.7", "vault.example.com"});
  const auto below = prepare({"west.dr.example.com", "b.vault.example.com", "2001:db8:0::7"});

  ASSERT_TRUE(named) << named.error().what;
  EXPECT_TRUE(named->renewed);
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->renewed);
  ASSERT_TRUE(below) << below.error().what;
  EXPECT_TRUE(below->renewed);
  EXPECT_EQ(verified("server.pem"), "OK");
}

TEST_F(CertificatesTest, ANameThatTheAuthorityWasNotMadeForIsAnErrorThatSaysWhatToDo) {
  ASSERT_TRUE(prepare({"vault.example.com"}));
  const std::string ca = text("ca.pem");
  const std::string server = text("server.pem");

  for (const char* name : {"vault.example.org", "avault.example.com", "192.0.2.200", "example.com",
                           "2001:db8::1234"}) {
    const auto other = prepare({"vault.example.com", name});

    ASSERT_FALSE(other) << name;
    EXPECT_EQ(other.error().code, ErrorCode::kConflict);
    EXPECT_THAT(other.error().what, HasSubstr(name));
    EXPECT_THAT(other.error().advice, HasSubstr("ca.key"));
  }
  EXPECT_EQ(text("ca.pem"), ca) << "clients have it: it is never replaced by itself";
  EXPECT_EQ(text("server.pem"), server);
}

// The judge is OpenSSL's own command.
TEST_F(CertificatesTest, WhoeverTakesTheAuthoritysKeyCannotSpeakForOtherNames) {
  if (run("openssl version").first != 0) GTEST_SKIP() << "no openssl command here";
  ASSERT_TRUE(prepare({"vault.example.com", "192.0.2.7"}));
  ASSERT_EQ(verified("server.pem"), "OK");

  for (const char* name :
       {"DNS:vault.example.com", "DNS:localhost", "IP:192.0.2.7", "IP:127.0.0.1", "IP:::1"}) {
    EXPECT_EQ(verified(sign(name)), "OK") << name;
  }
  for (const char* name : {"DNS:bank.example", "DNS:example.com", "DNS:*.com", "IP:192.0.2.8",
                           "IP:2001:db8::1", "DNS:vault.example.com,DNS:bank.example"}) {
    EXPECT_THAT(verified(sign(name)), HasSubstr("permitted subtree violation")) << name;
  }
  EXPECT_THAT(run("openssl x509 -noout -text -in " + folder_ + "/ca.pem").second,
              AllOf(HasSubstr("X509v3 Name Constraints: critical"), HasSubstr("pathlen:0"),
                    HasSubstr("DNS:vault.example.com")));
}

TEST_F(CertificatesTest, AnAuthorityWithoutLimitsGoesOnAndIsTold) {
  if (run("openssl version").first != 0) GTEST_SKIP() << "no openssl command here";
  ASSERT_TRUE(prepare()->is_ca_constrained);
  for (const char* file : {"ca.pem", "ca.key"}) std::filesystem::remove(folder_ + "/" + file);
  ASSERT_EQ(run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 20000 "
                "-subj /CN=old -keyout " +
                folder_ + "/ca.key -out " + folder_ + "/ca.pem")
                .first,
            0);
  ::chmod((folder_ + "/ca.key").c_str(), 0600);

  const auto old = prepare({"any.example.net"});

  ASSERT_TRUE(old) << old.error().what;
  EXPECT_FALSE(old->is_ca_constrained);
  EXPECT_TRUE(old->renewed) << "the server's is of that authority now";
  EXPECT_EQ(verified("server.pem"), "OK");
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
