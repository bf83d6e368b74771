// Logins by Kerberos, with a realm of the test's own: its KDC, database and configuration live in
// the test's folder and on a free port of loopback.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <optional>

#include "common/base/assert.h"
#include "tests/integration/wsman/hvsim_process.h"

namespace farside::hvsim {
namespace {

using wsman::Client;
using wsman::LoginChannel;
using wsman::LoginKind;
using wsman::Mechanism;

constexpr const char* kKdc = "/usr/sbin/krb5kdc";

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  FARSIDE_ASSERT(::bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0);
  FARSIDE_ASSERT(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  ::close(socket);
  return ntohs(address.sin_port);
}

bool answers(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  const bool is_up =
      ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(socket);
  return is_up;
}

class Realm final {
 public:
  Realm() : port_(free_port()) {
    std::ofstream(folder_ / "krb5.conf")
        << "[libdefaults]\ndefault_realm = FARSIDE.TEST\ndns_lookup_kdc = false\n"
           "dns_lookup_realm = false\ndns_canonicalize_hostname = false\nrdns = false\n"
           "udp_preference_limit = 1\n[realms]\nFARSIDE.TEST = {\n kdc = 127.0.0.1:"
        << port_ << "\n}\n[domain_realm]\nlocalhost = FARSIDE.TEST\n";
    std::ofstream(folder_ / "kdc.conf")
        << "[kdcdefaults]\nkdc_listen = \"\"\nkdc_tcp_listen = 127.0.0.1:" << port_
        << "\n[realms]\nFARSIDE.TEST = {\n database_name = " << (folder_ / "principal")
        << "\n key_stash_file = " << (folder_ / "stash") << "\n acl_file = " << (folder_ / "acl")
        << "\n}\n[logging]\nkdc = FILE:" << (folder_ / "kdc.log") << "\n";
    for (const auto& [name, value] : environment()) ::setenv(name.c_str(), value.c_str(), 1);
    run("kdb5_util create -s -r FARSIDE.TEST -P master");
    run(std::string("kadmin.local -q 'addprinc -pw \"") + kPassword + "\" " + kUser + "'");
    run("kadmin.local -q 'addprinc -randkey HTTP/localhost'");
    run("kadmin.local -q 'ktadd -k " + keytab() + " HTTP/localhost'");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::execl(kKdc, kKdc, "-n", nullptr);
      ::_exit(127);
    }
    for (int tries = 0; tries < 500 && !answers(port_); ++tries) ::poll(nullptr, 0, 10);
  }
  ~Realm() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
    for (const auto& [name, value] : environment()) ::unsetenv(name.c_str());
  }
  Realm(const Realm&) = delete;
  Realm& operator=(const Realm&) = delete;

  std::map<std::string, std::string> environment() const {
    return {{"KRB5_CONFIG", folder_ / "krb5.conf"},
            {"KRB5_KDC_PROFILE", folder_ / "kdc.conf"},
            {"KRB5CCNAME", "MEMORY:test"},
            {"KRB5RCACHETYPE", "none"}};
  }
  std::string keytab() const { return folder_ / "keytab"; }

 private:
  void run(const std::string& command) const {
    const std::string all = "PATH=$PATH:/usr/sbin " + command + " >>" + (folder_ / "log") + " 2>&1";
    EXPECT_EQ(std::system(all.c_str()), 0) << command;
  }

  test::TempFolder folder_;
  int port_ = 0;
  pid_t pid_ = -1;
};

TEST(KerberosTest, SealsOverHttpAndLogsInOverTls) {
  if (::access(kKdc, X_OK) != 0) GTEST_SKIP() << "krb5-kdc is not installed";
  const Realm realm;
  const HvsimProcess host({"--keytab", realm.keytab()}, realm.environment());
  SystemRandom random;
  for (const auto& target : {host.http(), host.https()}) {
    auto channel = LoginChannel::open(
        target, LoginKind::kNegotiate,
        {.user = kUser, .password = kPassword, .mechanism = Mechanism::kKerberos});
    ASSERT_TRUE(channel);
    Client client({.url = target.url}, std::move(*channel), random);
    for (int i = 0; i < 50; ++i) {
      const auto all = client.query("SELECT * FROM Msvm_ComputerSystem");
      ASSERT_TRUE(all) << i << ": " << to_text(all.error());
      EXPECT_EQ(all->size(), 3u);
    }
  }

  const HvsimProcess strict({"--keytab", realm.keytab(), "--bound-to", "own"}, realm.environment());
  const HvsimProcess between({"--keytab", realm.keytab(), "--bound-to", strict.ca_file()},
                             realm.environment());
  for (const HvsimProcess* one : {&strict, &between}) {
    auto channel = LoginChannel::open(
        one->https(), LoginKind::kNegotiate,
        {.user = kUser, .password = kPassword, .mechanism = Mechanism::kKerberos});
    ASSERT_TRUE(channel);
    const auto known = Client({.url = one->https_url()}, std::move(*channel), random).identify();
    EXPECT_EQ(known.has_value(), one == &strict) << "a login that is passed on must not hold";
  }

  auto wrong =
      LoginChannel::open(host.http(), LoginKind::kNegotiate,
                         {.user = kUser, .password = "wrong", .mechanism = Mechanism::kKerberos});
  ASSERT_TRUE(wrong);
  const auto refused = Client({.url = host.http_url()}, std::move(*wrong), random).identify();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnauthorized) << to_text(refused.error());
}

}  // namespace
}  // namespace farside::hvsim
