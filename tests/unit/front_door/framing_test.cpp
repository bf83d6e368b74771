// Where a request ends: what another program in the way may read differently is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "services/vault/front_door/server.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/front_door/https_client.h"

namespace farside::front_door {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class FramingTest : public testing::Test {
 protected:
  FramingTest() {
    auto server = Server::start(
        {.address = "127.0.0.1", .port = 0, .certificate_folder = folder_ / "tls"}, clock_,
        [](std::string_view) { return true; },
        [this](HttpRequest request, Responder responder) {
          {
            const std::lock_guard lock(mutex_);
            paths_.push_back(request.path);
          }
          responder.send({.status = 200, .body = request.body});
        });
    if (server) server_ = std::move(*server);
  }
  void SetUp() override { ASSERT_NE(server_, nullptr); }

  // All that is answered to `headers`, a body of one chunk, and a request behind it.
  std::string say(const std::string& headers) {
    RawClient client(server_->port(), true);
    client.say("POST /first HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n2\r\nab\r\n0\r\n\r\n" +
               "GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    std::string heard = client.hear_all();
    if (!heard.starts_with("HTTP/1.1 200")) {
      EXPECT_TRUE(client.was_closed()) << headers;
    }
    return heard;
  }

  const test::TempFolder folder_;
  const SystemClock clock_;
  std::mutex mutex_;  // Guards `paths_`.
  std::vector<std::string> paths_;
  std::unique_ptr<Server> server_;
};

TEST_F(FramingTest, ChunkedIsTheOneCodingThatIsKnown) {
  for (const char* coding : {"chunked", "Chunked"}) {
    EXPECT_THAT(say(std::string("Transfer-Encoding: ") + coding + "\r\n"),
                HasSubstr("HTTP/1.1 200"));
  }
  EXPECT_THAT(paths_, ElementsAre("/first", "/second", "/first", "/second"));
}

TEST_F(FramingTest, OtherCodingsAreRefusedAndNothingBehindThemIsRead) {
  for (const char* coding : {"xchunked", "chunked, gzip", "gzip, chunked", "identity",
                             "chunked, chunked", "chunked;x=1", "\"chunked\"", ""}) {
    const std::string heard = say(std::string("Transfer-Encoding: ") + coding + "\r\n");

    EXPECT_THAT(heard, HasSubstr("HTTP/1.1 501")) << coding;
    EXPECT_THAT(heard, HasSubstr("Connection: close")) << coding;
    EXPECT_THAT(heard, HasSubstr("NotImplemented")) << coding;
  }
  for (const char* headers : {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                              "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
                              "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"}) {
    EXPECT_THAT(say(headers), testing::ContainsRegex("^HTTP/1.1 (400|501)")) << headers;
  }
  EXPECT_THAT(paths_, ElementsAre());
}

TEST_F(FramingTest, ALengthBesideACodingIsRefused) {
  for (const char* headers : {"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                              "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
                              "Content-Length: 2\r\nTransfer-Encoding: xchunked\r\n",
                              "Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n"}) {
    EXPECT_THAT(say(headers), testing::StartsWith("HTTP/1.1 400")) << headers;
  }
  EXPECT_THAT(paths_, ElementsAre());
}

}  // namespace
}  // namespace farside::front_door
