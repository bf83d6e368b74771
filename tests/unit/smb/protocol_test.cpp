// Messages between the agent and farside-smb: what is written is read again, and nothing else is.
#include "services/agent/platforms/hyperv/smb/protocol.h"

#include <gtest/gtest.h>

namespace farside::agent::smb {
namespace {

template <class Message>
std::string body(const Message& message) {
  return encode(7, message).substr(kLengthBytes);
}

const std::vector<Request>& requests() {
  static const std::vector<Request> kRequests{
      Connect{.server = "host",
              .port = 4450,
              .share = "vms",
              .domain = "D",
              .user = "u",
              .password = "p w",
              .encrypt = true,
              .sign = false,
              .timeout_ms = 9},
      GetAttributes{.path = "a/b"},
      ListFolder{.path = ""},
      MakeFolders{.path = "x\\y"},
      Rename{.from = "a", .to = "b"},
      Remove{.path = "a"},
      GetSpace{.path = "/"},
      Open{.path = "disk.vhdx", .access = Access::kCreateNew},
      Close{.handle = 1},
      GetSize{.handle = 2},
      Read{.handle = 3, .offset = 1ULL << 40U, .length = 1U << 20U},
      Write{.handle = 4, .offset = 5, .bytes = "bytes"},
      Truncate{.handle = 5, .bytes = 1ULL << 41U},
      Flush{.handle = 6}};
  return kRequests;
}

const std::vector<Reply>& replies() {
  static const std::vector<Reply> kReplies{
      Refused{.code = 3, .what = "no", .advice = "try"},
      Done{},
      Attributes{.bytes = 9, .is_folder = true, .modified_s = -5},
      Listed{.entries = {{.name = "a", .attributes = {.bytes = 1}}, {.name = "b"}}},
      Space{.total_bytes = 10, .free_bytes = 3},
      Opened{.handle = 8},
      SizeTold{.bytes = 77},
      BytesRead{.bytes = "data"}};
  return kReplies;
}

TEST(SmbProtocolTest, EveryRequestComesBackAsItWas) {
  for (std::size_t i = 0; i < requests().size(); ++i) {
    ASSERT_EQ(requests()[i].index(), i);  // Every kind is here.
    const std::string bytes = body(requests()[i]);

    const auto again = decode_request(bytes);

    ASSERT_TRUE(again) << i << ": " << to_text(again.error());
    EXPECT_EQ(again->id, 7u);
    EXPECT_EQ(body(again->message), bytes);
  }
  EXPECT_EQ(requests().size(), std::variant_size_v<Request>);
}

TEST(SmbProtocolTest, EveryReplyComesBackAsItWas) {
  for (std::size_t i = 0; i < replies().size(); ++i) {
    ASSERT_EQ(replies()[i].index(), i);
    const std::string bytes = body(replies()[i]);

    const auto again = decode_reply(bytes);

    ASSERT_TRUE(again) << i << ": " << to_text(again.error());
    EXPECT_EQ(body(again->message), bytes);
  }
  EXPECT_EQ(replies().size(), std::variant_size_v<Reply>);
}

TEST(SmbProtocolTest, FieldsKeepTheirValues) {
  const auto login = decode_request(body(requests()[0]));
  const auto& connect = std::get<Connect>(login->message);
  EXPECT_EQ(connect.port, 4450);
  EXPECT_EQ(connect.password, "p w");
  EXPECT_TRUE(connect.encrypt);
  EXPECT_FALSE(connect.sign);

  const auto told = decode_reply(body(replies()[2]));
  EXPECT_EQ(std::get<Attributes>(told->message).modified_s, -5);
  EXPECT_TRUE(std::get<Attributes>(told->message).is_folder);
}

TEST(SmbProtocolTest, AMessageCutShortOrTooLongIsRefused) {
  for (const Request& request : requests()) {
    const std::string bytes = body(request);
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      const auto cut = decode_request(bytes.substr(0, length));
      ASSERT_FALSE(cut) << request.index() << " at " << length;
      EXPECT_EQ(cut.error().code, ErrorCode::kCorrupt);
    }
    EXPECT_FALSE(decode_request(bytes + "x"));
  }
  for (const Reply& reply : replies()) {
    const std::string bytes = body(reply);
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      EXPECT_FALSE(decode_reply(bytes.substr(0, length))) << reply.index() << " at " << length;
    }
  }
}

TEST(SmbProtocolTest, BoundsAreKept) {
  EXPECT_TRUE(decode_request(body(Request(Read{.length = kTransferBytesMax}))));
  EXPECT_FALSE(decode_request(body(Request(Read{.length = kTransferBytesMax + 1}))));
  const std::string big(kTransferBytesMax + 1, 'x');
  EXPECT_FALSE(decode_request(body(Request(Write{.bytes = big}))));
  EXPECT_FALSE(decode_request(body(Request(Remove{.path = std::string(kTextBytesMax + 1, 'p')}))));
  // A flag or a number of a list that does not exist.
  std::string odd = body(requests()[7]);
  odd.back() = 3;
  EXPECT_FALSE(decode_request(odd));
  std::string unknown = body(requests()[1]);
  unknown[4] = static_cast<char>(std::variant_size_v<Request>);
  EXPECT_FALSE(decode_request(unknown));
  // More entries claimed than bytes are there.
  std::string list = body(replies()[3]);
  list[5] = static_cast<char>(0xff);
  EXPECT_FALSE(decode_reply(list));
}

TEST(SmbProtocolTest, AFrameIsTakenOnlyWhenItIsComplete) {
  const std::string two = encode(1, Request(Close{.handle = 1})) + encode(2, Request(Flush{}));
  const std::size_t first = encode(1, Request(Close{.handle = 1})).size();
  for (std::size_t length = 0; length < first; ++length) {
    const auto part = first_frame(std::string_view(two).substr(0, length));
    ASSERT_TRUE(part);
    EXPECT_FALSE(*part) << length;
  }

  const auto whole = first_frame(two);

  ASSERT_TRUE(whole && *whole);
  EXPECT_EQ((*whole)->size(), first - kLengthBytes);
  EXPECT_FALSE(first_frame(std::string("\xff\xff\xff\x7f", 4)));
}

TEST(SmbProtocolTest, BytesReadInPlaceAreTheSameFrame) {
  std::string frame(kReadPrefixBytes + 10, 'x');
  frame.replace(kReadPrefixBytes, 4, "data");

  seal_bytes_read(9, 4, frame);

  EXPECT_EQ(frame, encode(9, Reply(BytesRead{.bytes = "data"})));
}

}  // namespace
}  // namespace farside::agent::smb
