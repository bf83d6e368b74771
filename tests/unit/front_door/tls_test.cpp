// What TLS the front door speaks, asked by OpenSSL's own client, one cipher at a time.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "services/vault/front_door/server.h"
#include "tests/support/temp_folder.h"

namespace farside::front_door {
namespace {

struct Free {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* stream) const { SSL_free(stream); }
};
using Context = std::unique_ptr<SSL_CTX, Free>;

Context client(int version, const std::string& ciphers) {
  Context context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_security_level(context.get(), 0);  // Also what this system frowns on.
  SSL_CTX_set_min_proto_version(context.get(), version);
  SSL_CTX_set_max_proto_version(context.get(), version);
  if (!ciphers.empty()) {
    EXPECT_EQ(SSL_CTX_set_cipher_list(context.get(), ciphers.c_str()), 1);
  }
  return context;
}

struct Agreed {
  std::string cipher;
  bool is_aead = false;
  bool is_forward_secret = false;
};

// nullopt: the two have no way to speak in common.
std::optional<Agreed> shake_hands(std::uint16_t port, SSL_CTX* context) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const std::unique_ptr<SSL, Free> stream(SSL_new(context));
  SSL_set_fd(stream.get(), fd);
  std::optional<Agreed> agreed;
  if (SSL_connect(stream.get()) == 1) {
    const SSL_CIPHER* cipher = SSL_get_current_cipher(stream.get());
    const int exchange = SSL_CIPHER_get_kx_nid(cipher);
    agreed = Agreed{.cipher = SSL_CIPHER_get_name(cipher),
                    .is_aead = SSL_CIPHER_is_aead(cipher) == 1,
                    .is_forward_secret = exchange == NID_kx_ecdhe || exchange == NID_kx_any};
  }
  ERR_clear_error();
  ::close(fd);
  return agreed;
}

class TlsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto server = Server::start(
        {.address = "127.0.0.1", .port = 0, .certificate_folder = folder_ / "tls"}, clock_,
        [](std::string_view) { return true; }, [](HttpRequest, Responder) {});
    ASSERT_TRUE(server) << server.error().what;
    server_ = std::move(*server);
  }

  const test::TempFolder folder_;
  const SystemClock clock_;
  std::unique_ptr<Server> server_;
};

TEST_F(TlsTest, Of12OnlySealingCiphersWithForwardSecrecyAreSpoken) {
  std::vector<std::string> all;
  {
    const Context context = client(TLS1_2_VERSION, "ALL:COMPLEMENTOFALL:@SECLEVEL=0");
    const std::unique_ptr<SSL, Free> stream(SSL_new(context.get()));
    const STACK_OF(SSL_CIPHER)* ciphers = SSL_get_ciphers(stream.get());
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); ++i) {
      const SSL_CIPHER* cipher = sk_SSL_CIPHER_value(ciphers, i);
      if (std::string(SSL_CIPHER_get_version(cipher)) != "TLSv1.3") {
        all.emplace_back(SSL_CIPHER_get_name(cipher));
      }
    }
  }
  ASSERT_GT(all.size(), 50u);

  std::set<std::string> spoken;
  for (const std::string& cipher : all) {
    const auto agreed = shake_hands(server_->port(), client(TLS1_2_VERSION, cipher).get());
    if (!agreed) continue;
    EXPECT_TRUE(agreed->is_aead && agreed->is_forward_secret) << agreed->cipher;
    spoken.insert(agreed->cipher);
  }

  EXPECT_EQ(spoken,
            (std::set<std::string>{"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                                   "ECDHE-ECDSA-CHACHA20-POLY1305"}));
}

TEST_F(TlsTest, The13IsSpokenAndNothingOlderThan12) {
  EXPECT_TRUE(shake_hands(server_->port(), client(TLS1_3_VERSION, "").get()));
  EXPECT_FALSE(shake_hands(server_->port(), client(TLS1_1_VERSION, "").get()));
  EXPECT_FALSE(shake_hands(server_->port(), client(TLS1_VERSION, "").get()));
}

}  // namespace
}  // namespace farside::front_door
