// Whoever has no token costs little, and keeps nobody out who has it.
#include <curl/curl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "common/base/file.h"
#include "common/base/sha256.h"
#include "services/vault/front_door/bearer_token.h"
#include "services/vault/front_door/server.h"
#include "tests/support/temp_folder.h"
#include "tests/unit/front_door/https_client.h"

namespace farside::front_door {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::vector<std::string> kToken{"Authorization: Bearer secret"};
constexpr const char* kTokenLine = "Authorization: Bearer secret\r\n";

void pause_ms(int milliseconds) {
  pollfd nothing{.fd = -1, .events = 0, .revents = 0};
  ::poll(&nothing, 1, milliseconds);
}

std::int64_t resident_bytes() {
  std::int64_t all = 0;
  std::int64_t resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

class StrangersTest : public testing::Test {
 protected:
  StrangersTest() {
    std::signal(SIGPIPE, SIG_IGN);  // Some say more than they are heard.
    options_.address = "127.0.0.1";
    options_.port = 0;
    options_.certificate_folder = folder_ / "tls";
  }
  void start() {
    auto server = Server::start(
        options_, clock_, [this](std::string_view header) { return token_.admits(header); },
        [this](HttpRequest request, Responder responder) {
          ++handled_;
          responder.send({.status = 200, .body = std::to_string(request.body.size())});
        });
    ASSERT_TRUE(server) << server.error().what;
    server_ = std::move(*server);
  }
  long ask_with_token() const {
    return HttpsClient(server_->port(), server_->ca_file()).request("GET", "/", "", kToken).status;
  }

  const test::TempFolder folder_;
  const SystemClock clock_;
  const BearerToken token_{sha256_hex("secret")};
  ServerOptions options_;
  std::atomic<int> handled_ = 0;
  std::unique_ptr<Server> server_;
};

TEST_F(StrangersTest, WithoutATokenTheAnswerIs401AndTheEnd) {
  start();
  for (const char* header : {"", "Authorization: Bearer wrong\r\n", "Authorization: Basic eDp5\r\n",
                             "Authorization: Bearer secret\r\nAuthorization: Bearer wrong\r\n",
                             "Authorization: bearer\r\n"}) {
    RawClient client(server_->port(), true);
    client.say(std::string("GET / HTTP/1.1\r\nHost: x\r\n") + header + "\r\n" +
               "GET /again HTTP/1.1\r\nHost: x\r\n" + kTokenLine + "\r\n");

    const std::string heard = client.hear_all();

    EXPECT_THAT(heard, StartsWith("HTTP/1.1 401")) << header;
    EXPECT_THAT(heard, HasSubstr("Connection: close"));
    EXPECT_THAT(heard, HasSubstr("WWW-Authenticate: Bearer"));
    EXPECT_THAT(heard, HasSubstr("InvalidAuthenticationToken"));
    EXPECT_THAT(heard, Not(HasSubstr("HTTP/1.1 200")));
    EXPECT_TRUE(client.was_closed());
  }
  EXPECT_EQ(handled_, 0);
  EXPECT_EQ(server_->stats().unauthorized, 5u);
  EXPECT_EQ(server_->stats().requests, 0u);
  EXPECT_EQ(ask_with_token(), 200);
}

TEST_F(StrangersTest, AWrongTokenAtAConnectionThatHadTheRightOneEndsIt) {
  start();
  RawClient client(server_->port(), true);

  client.say(std::string("GET / HTTP/1.1\r\nHost: x\r\n") + kTokenLine + "\r\n" +
             "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n" +
             "GET / HTTP/1.1\r\nHost: x\r\n" + kTokenLine + "\r\n");
  const std::string heard = client.hear_all();

  EXPECT_THAT(heard, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(heard, HasSubstr("HTTP/1.1 401"));
  EXPECT_EQ(handled_, 1);
}

TEST_F(StrangersTest, NoBodyIsAskedForNorReadBeforeTheToken) {
  start();
  RawClient asking(server_->port(), true);
  RawClient huge(server_->port(), true);

  asking.say("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n");
  huge.say("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000000\r\n\r\n");

  EXPECT_THAT(asking.hear_all(), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(huge.hear_all(), StartsWith("HTTP/1.1 401")) << "not even that it is too large";
}

TEST_F(StrangersTest, HalfSentBodiesOfAHundredStrangersHoldNoMemory) {
  start();
  constexpr int kStrangers = 100;
  constexpr std::int64_t kBytes = std::int64_t{4} << 20U;
  const std::string half(kBytes - 1, 'x');
  const std::string headers =
      "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kBytes) + "\r\n\r\n";
  std::vector<std::unique_ptr<RawClient>> strangers;
  for (int i = 0; i < kStrangers; ++i) {
    strangers.push_back(std::make_unique<RawClient>(server_->port(), true));
  }
  const std::int64_t before = resident_bytes();
  {
    std::vector<std::jthread> threads;
    for (const auto& stranger : strangers) {
      threads.emplace_back([&] {
        stranger->say(headers);
        stranger->say(half);
      });
    }
  }
  [[maybe_unused]] const std::int64_t grown = resident_bytes() - before;

  EXPECT_EQ(server_->stats().unauthorized, static_cast<std::uint64_t>(kStrangers));
  EXPECT_EQ(handled_, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(grown, kStrangers * kBytes / 8);
#endif
  EXPECT_EQ(ask_with_token(), 200);
}

TEST_F(StrangersTest, SixHundredThatTrickleKeepNobodyOut) {
  raise_open_files_limit();
  options_.has_local_reserve = false;
  options_.first_headers_within_ms = 600'000;  // Only their number is to end any of them.
  start();
  constexpr int kPlaces = 40;
  constexpr int kEach = 16;
  std::vector<std::unique_ptr<RawClient>> strangers;
  int answered = 0;
  for (int place = 0; place < kPlaces; ++place) {
    for (int i = 0; i < kEach; ++i) {
      strangers.push_back(std::make_unique<RawClient>(server_->port(), true,
                                                      "127.0.0." + std::to_string(2 + place)));
      strangers.back()->say("GET / HTTP/1.1\r\nHost: x\r\nX-Trickle: ");
    }
    for (const auto& one : strangers) one->say("x");
    if (ask_with_token() == 200) ++answered;
  }

  const ServerStats stats = server_->stats();
  EXPECT_EQ(answered, kPlaces);
  EXPECT_LE(stats.strangers, options_.admission.strangers_max);
  EXPECT_GE(stats.strangers, options_.admission.strangers_max - 2);
  EXPECT_GE(stats.closed_for_room, strangers.size() - options_.admission.strangers_max);
  EXPECT_EQ(stats.refused, 0u);
  EXPECT_EQ(strangers.front()->hear_all(), "") << "the oldest went";
  EXPECT_TRUE(strangers.front()->was_closed());

  for (const auto& one : strangers) one->say("\r\n" + std::string(kTokenLine) + "\r\n");
  EXPECT_THAT(strangers.back()->hear(), StartsWith("HTTP/1.1 200")) << "the newest is served yet";
}

TEST_F(StrangersTest, SixHundredOfThisHostKeepNobodyOut) {
  raise_open_files_limit();
  start();
  std::vector<std::unique_ptr<RawClient>> strangers;
  int answered = 0;
  for (int i = 0; i < 600; ++i) {
    strangers.push_back(
        std::make_unique<RawClient>(server_->port(), true, "127.0.0." + std::to_string(2 + i % 5)));
    strangers.back()->say("GET / HTTP/1.1\r\nX-Trickle: ");
    if (i % 50 == 0 && ask_with_token() == 200) ++answered;
  }

  EXPECT_EQ(answered, 12);
  EXPECT_LE(server_->stats().strangers, options_.admission.local_strangers_max);
}

TEST_F(StrangersTest, OfOneAddressSixteenStay) {
  options_.has_local_reserve = false;
  start();
  RawClient other(server_->port(), true, "127.0.0.3");
  std::vector<std::unique_ptr<RawClient>> strangers;
  for (int i = 0; i < 17; ++i) {
    strangers.push_back(std::make_unique<RawClient>(server_->port(), true, "127.0.0.2"));
  }

  EXPECT_EQ(strangers[0]->hear_all(), "");
  EXPECT_TRUE(strangers[0]->was_closed());
  EXPECT_EQ(server_->stats().strangers, 17u);
  EXPECT_EQ(server_->stats().closed_for_room, 1u);
  for (RawClient* one : {&other, strangers[1].get()}) {
    one->say(std::string("GET / HTTP/1.1\r\nHost: x\r\n") + kTokenLine + "\r\n");
    EXPECT_THAT(one->hear(), StartsWith("HTTP/1.1 200"));
  }
}

TEST_F(StrangersTest, TheFirstHeadersHaveADeadlineAndLaterOnesMoreTime) {
  options_.first_headers_within_ms = 300;
  start();
  RawClient trickling(server_->port(), true);
  HttpsClient known(server_->port(), server_->ca_file());
  ASSERT_EQ(known.request("GET", "/", "", kToken).status, 200);

  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 10; ++i) {
    trickling.say(i == 0 ? "GET / HTTP/1.1\r\nX: " : "x");
    pause_ms(60);
  }

  EXPECT_EQ(trickling.hear_all(), "");
  EXPECT_TRUE(trickling.was_closed());
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10));
  EXPECT_EQ(known.request("GET", "/", "", kToken).status, 200);
  EXPECT_EQ(known.connections_made(), 1);
}

TEST_F(StrangersTest, OfThoseWithTheTokenThereAreLimitsToo) {
  options_.admission.authenticated_max = 2;
  start();
  const auto once = std::string("GET / HTTP/1.1\r\nHost: x\r\n") + kTokenLine + "\r\n";
  auto first = std::make_unique<RawClient>(server_->port(), true);
  RawClient second(server_->port(), true);
  for (RawClient* one : {first.get(), &second}) {
    one->say(once);
    EXPECT_THAT(one->hear(), StartsWith("HTTP/1.1 200"));
  }
  RawClient third(server_->port(), true);

  third.say(once);
  const std::string heard = third.hear_all();

  EXPECT_THAT(heard, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(heard, HasSubstr("Retry-After"));
  EXPECT_EQ(server_->stats().refused, 1u);

  first.reset();
  while (server_->stats().connections > 1) pause_ms(1);
  EXPECT_EQ(ask_with_token(), 200);
}

TEST_F(StrangersTest, BodiesHaveALimitTogether) {
  options_.body_bytes_max = 6'000;
  options_.bodies_bytes_max = 10'000;
  start();
  const auto headers =
      std::string("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 6000\r\n") + kTokenLine + "\r\n";
  RawClient first(server_->port(), true);
  first.say(headers + "x");
  while (server_->stats().strangers > 0) pause_ms(1);
  pause_ms(50);  // Nothing tells that the room is taken; it is, right after that.
  RawClient second(server_->port(), true);
  RawClient chunked(server_->port(), true);

  second.say(headers);
  chunked.say(std::string("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n") +
              kTokenLine + "\r\n");

  EXPECT_THAT(second.hear_all(), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(chunked.hear_all(), StartsWith("HTTP/1.1 503"));
  EXPECT_EQ(server_->stats().refused, 2u);
  EXPECT_EQ(ask_with_token(), 200) << "without a body there is room";

  first.say(std::string(5'999, 'x'));
  EXPECT_THAT(first.hear(), HasSubstr("6000"));
  const Reply later = HttpsClient(server_->port(), server_->ca_file())
                          .request("PUT", "/", std::string(6'000, 'x'), kToken);
  EXPECT_EQ(later.status, 200);
}

}  // namespace
}  // namespace farside::front_door
