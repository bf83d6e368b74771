#include "common/wsman/sealed_body.h"

#include <gtest/gtest.h>

#include "common/wsman/login_channel.h"

namespace farside::wsman {
namespace {

TEST(SealedBodyTest, IsWrittenToTheByteAsClientsExpectIt) {
  EXPECT_EQ(write_sealed_body({.header = "0123456789abcdef", .text = "xyz"}, 3),
            "--Encrypted Boundary\r\n"
            "\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
            "\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=3\r\n"
            "--Encrypted Boundary\r\n"
            "\tContent-Type: application/octet-stream\r\n" +
                std::string("\x10\0\0\0", 4) + "0123456789abcdefxyz--Encrypted Boundary--\r\n");
}

TEST(SealedBodyTest, IsReadWhateverItsBytesLookLike) {
  const Sealed sealed{.header = "\r\n--Encrypted Boundary\r\n",
                      .text = std::string("--Encrypted Boundary--\r\n\0", 25)};

  const std::string body = write_sealed_body(sealed, 25);
  const auto view = read_sealed_body(body);

  ASSERT_TRUE(view) << view.error().what;
  EXPECT_EQ(view->header, sealed.header);
  EXPECT_EQ(view->text, sealed.text);
  EXPECT_EQ(view->plain_bytes, 25u);
}

TEST(SealedBodyTest, CutShortOrWithALyingLengthIsCorrupt) {
  const std::string body = write_sealed_body({.header = "0123456789abcdef", .text = "xyz"}, 3);
  for (std::size_t bytes = 0; bytes + 2 < body.size(); ++bytes) {
    EXPECT_FALSE(read_sealed_body(body.substr(0, bytes))) << bytes;
  }
  std::string lying = body;
  lying[lying.find('\x10')] = '\xff';
  EXPECT_FALSE(read_sealed_body(lying));
}

TEST(SealedBodyTest, Base64ComesBack) {
  for (const std::string text : {"", "a", "ab", "abc", "abcd"}) {
    EXPECT_EQ(from_base64(to_base64(text)).value(), text);
  }
  EXPECT_FALSE(from_base64("*"));
}

TEST(LoginChannelTest, NeverSaysAPasswordOverHttp) {
  for (const LoginKind kind : {LoginKind::kBasic, LoginKind::kCertificate}) {
    const auto channel =
        LoginChannel::open({.url = "http://host:5985/wsman"}, kind, {.user = "u", .password = "p"});
    ASSERT_FALSE(channel);
    EXPECT_EQ(channel.error().code, ErrorCode::kInvalidArgument);
    EXPECT_FALSE(channel.error().advice.empty());
  }
}

}  // namespace
}  // namespace farside::wsman
