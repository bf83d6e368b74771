#include "services/vault/front_door/server.h"

#include <curl/curl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "services/vault/front_door/lro.h"
#include "tests/unit/front_door/https_client.h"

namespace farside::front_door {
namespace {

using testing::HasSubstr;

void pause_ms(int milliseconds) {
  pollfd nothing{.fd = -1, .events = 0, .revents = 0};
  ::poll(&nothing, 1, milliseconds);
}

class FrontDoorTest : public testing::Test {
 protected:
  FrontDoorTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "door-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    options_.address = "127.0.0.1";
    options_.port = 0;
    options_.certificate_folder = folder_ + "/tls";
  }
  ~FrontDoorTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void start(RequestHandler handler) {
    auto server = Server::start(options_, clock_, anybody(), std::move(handler));
    ASSERT_TRUE(server) << server.error().what;
    server_ = std::move(*server);
  }
  HttpsClient client(const std::string& host = "127.0.0.1") const {
    return HttpsClient(server_->port(), server_->ca_file(), host);
  }
  static Authorize anybody() {
    return [](std::string_view) { return true; };
  }
  static RequestHandler echo() {
    return [](HttpRequest request, Responder responder) {
      nlohmann::json body{{"method", request.method},    {"path", request.path},
                          {"query", request.query},      {"authorization", request.authorization},
                          {"host", request.host},        {"remote", request.remote},
                          {"bytes", request.body.size()}};
      responder.send({.status = 200, .body = body.dump()});
    };
  }

  SystemClock clock_;
  ServerOptions options_;
  std::string folder_;
  std::unique_ptr<Server> server_;
};

TEST_F(FrontDoorTest, HandsOverTheRequestAndReturnsTheAnswerWithArmHeaders) {
  start(echo());

  const Reply reply =
      client().request("PUT", "/subscriptions/a%20b?api-version=2023-06-01", R"({"properties":{}})",
                       {"Authorization: Bearer secret", "x-ms-client-request-id: 42-42"});

  ASSERT_EQ(reply.curl_error, CURLE_OK);
  EXPECT_EQ(reply.status, 200);
  const auto body = nlohmann::json::parse(reply.body);
  EXPECT_EQ(body["method"], "PUT");
  EXPECT_EQ(body["path"], "/subscriptions/a%20b");
  EXPECT_EQ(body["query"], "api-version=2023-06-01");
  EXPECT_EQ(body["authorization"], "Bearer secret");
  EXPECT_EQ(body["host"], "127.0.0.1:" + std::to_string(server_->port()));
  EXPECT_EQ(body["remote"], "127.0.0.1");
  EXPECT_EQ(body["bytes"], 17);
  EXPECT_EQ(reply.headers.at("x-ms-client-request-id"), "42-42");
  EXPECT_EQ(reply.headers.at("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(reply.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(reply.headers.at("x-content-type-options"), "nosniff");
  EXPECT_EQ(reply.headers.at("content-security-policy"),
            "default-src 'none'; frame-ancestors 'none'");
  EXPECT_EQ(reply.headers.at("x-frame-options"), "DENY");
  EXPECT_EQ(reply.headers.at("referrer-policy"), "no-referrer");
  EXPECT_EQ(reply.headers.at("strict-transport-security"), "max-age=31536000");
  EXPECT_FALSE(reply.headers.at("x-ms-request-id").empty());
}

TEST_F(FrontDoorTest, TheCertificateHoldsForLocalhostAndTheNamesAskedFor) {
  options_.names = {"vault.example.com"};
  start(echo());

  EXPECT_EQ(client("localhost").request("GET", "/").curl_error, CURLE_OK);
}

TEST_F(FrontDoorTest, AClientWithAnotherAuthorityDoesNotTrustUs) {
  start(echo());
  ServerOptions other = options_;
  other.certificate_folder = folder_ + "/other";
  const auto stranger = Server::start(other, clock_, anybody(), echo());
  ASSERT_TRUE(stranger);

  HttpsClient wary(server_->port(), (*stranger)->ca_file());

  EXPECT_EQ(wary.request("GET", "/").curl_error, CURLE_PEER_FAILED_VERIFICATION);
}

TEST_F(FrontDoorTest, OneConnectionServesManyRequests) {
  start(echo());
  HttpsClient one(server_->port(), server_->ca_file());

  for (int i = 0; i < 50; ++i) ASSERT_EQ(one.request("GET", "/").status, 200);

  EXPECT_EQ(one.connections_made(), 1);
  EXPECT_EQ(server_->stats().requests, 50u);
}

TEST_F(FrontDoorTest, AnAnswerMayComeLaterFromAnyThreadAndOnlyTheFirstCounts) {
  std::vector<std::jthread> threads;
  std::mutex mutex;
  start([&](HttpRequest, Responder responder) {
    const std::lock_guard lock(mutex);
    threads.emplace_back([responder] {
      pause_ms(50);
      responder.send({.status = 201, .body = "first"});
      responder.send({.status = 500, .body = "second"});
    });
  });

  const Reply reply = client().request("POST", "/", "{}");

  EXPECT_EQ(reply.status, 201);
  EXPECT_EQ(reply.body, "first");
  server_.reset();
}

TEST_F(FrontDoorTest, AnAcceptedOperationHasNoBodyButItsLinks) {
  start([](HttpRequest request, Responder responder) {
    responder.send(accepted({.host = request.host,
                             .vault_path = "/v",
                             .resource = "/v/r",
                             .job = "j",
                             .api_version = "2023-06-01"}));
  });

  const Reply reply = client().request("PUT", "/v/r?api-version=2023-06-01", "{}");

  EXPECT_EQ(reply.status, 202);
  EXPECT_EQ(reply.body, "");
  EXPECT_EQ(reply.headers.at("content-length"), "0");
  EXPECT_EQ(reply.headers.at("retry-after"), "1");
  EXPECT_EQ(reply.headers.at("x-ms-request-id"), "/v/replicationJobs/j");
  EXPECT_THAT(reply.headers.at("azure-asyncoperation"),
              HasSubstr("https://127.0.0.1:" + std::to_string(server_->port()) + "/v/"));
}

TEST_F(FrontDoorTest, ARequestNobodyAnswersIs504AndALateAnswerIsDropped) {
  options_.answer_within_ms = 100;
  std::optional<Responder> kept;
  std::mutex mutex;
  start([&](HttpRequest, Responder responder) {
    const std::lock_guard lock(mutex);
    kept = responder;
  });
  HttpsClient one(server_->port(), server_->ca_file());

  const Reply reply = one.request("GET", "/");
  {
    const std::lock_guard lock(mutex);
    kept->send({.status = 200, .body = "late"});
  }
  const Reply next = one.request("GET", "/");

  EXPECT_EQ(reply.status, 504);
  EXPECT_EQ(nlohmann::json::parse(reply.body)["error"]["code"], "GatewayTimeout");
  EXPECT_EQ(next.status, 504);
  EXPECT_EQ(server_->stats().unanswered, 2u);
}

TEST_F(FrontDoorTest, AnAnswerAfterTheClientOrTheServerHasGoneIsHarmless) {
  std::vector<Responder> kept;
  std::mutex mutex;
  std::condition_variable arrived;
  start([&](HttpRequest, Responder responder) {
    const std::lock_guard lock(mutex);
    kept.push_back(responder);
    arrived.notify_all();
  });
  {
    RawClient impatient(server_->port(), true);
    impatient.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    std::unique_lock lock(mutex);
    arrived.wait(lock, [&] { return kept.size() == 1; });
  }
  kept[0].send({.status = 200, .body = "nobody hears this"});

  RawClient waiting(server_->port(), true);
  waiting.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  {
    std::unique_lock lock(mutex);
    arrived.wait(lock, [&] { return kept.size() == 2; });
  }
  server_.reset();
  kept[1].send({.status = 200, .body = "nor this"});
}

TEST_F(FrontDoorTest, ABodyBeyondTheLimitIs413) {
  options_.body_bytes_max = 10'000;
  start(echo());
  HttpsClient one(server_->port(), server_->ca_file());

  const Reply fits = one.request("PUT", "/", std::string(10'000, 'x'));
  const Reply declared = one.request("PUT", "/", std::string(10'001, 'x'), {"Expect:"});
  const Reply asked_first =
      one.request("PUT", "/", std::string(3'000'000, 'x'), {"Expect: 100-continue"});
  RawClient chunked(server_->port(), true);
  chunked.say("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2711\r\n" +
              std::string(10'001, 'x') + "\r\n0\r\n\r\n");

  EXPECT_EQ(fits.status, 200);
  EXPECT_EQ(declared.status, 413);
  EXPECT_EQ(nlohmann::json::parse(declared.body)["error"]["code"], "RequestTooLarge");
  EXPECT_EQ(asked_first.status, 413);
  EXPECT_THAT(chunked.hear_all(), HasSubstr("HTTP/1.1 413"));
}

TEST_F(FrontDoorTest, AClientThatAsksFirstMaySendItsBody) {
  start(echo());

  const Reply reply =
      client().request("PUT", "/", std::string(2'000'000, 'x'), {"Expect: 100-continue"});

  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(nlohmann::json::parse(reply.body)["bytes"], 2'000'000);
}

TEST_F(FrontDoorTest, HeadersBeyondTheLimitAre431) {
  start(echo());

  const Reply reply = client().request("GET", "/", "", {"X-Long: " + std::string(60'000, 'x')});

  EXPECT_EQ(reply.status, 431);
}

TEST_F(FrontDoorTest, BytesThatAreNotHttpAre400) {
  start(echo());
  RawClient babbler(server_->port(), true);

  babbler.say("HELO friend\r\n\r\n");

  EXPECT_THAT(babbler.hear_all(), HasSubstr("HTTP/1.1 400"));
  EXPECT_TRUE(babbler.was_closed());
}

TEST_F(FrontDoorTest, AClientThatDoesNotSpeakTlsIsHungUpOn) {
  start(echo());
  RawClient plain(server_->port(), false);

  plain.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string heard = plain.hear_all();

  EXPECT_THAT(heard, testing::Not(HasSubstr("HTTP/1.1 200")));
  EXPECT_TRUE(plain.was_closed());
  EXPECT_EQ(server_->stats().failed_handshakes, 1u);
  EXPECT_EQ(client().request("GET", "/").status, 200);
}

TEST_F(FrontDoorTest, ASlowClientLosesItsConnection) {
  options_.handshake_within_ms = 200;
  options_.first_headers_within_ms = 300;
  options_.transfer_within_ms = 300;
  start(echo());
  RawClient mute(server_->port(), false);
  RawClient slow_headers(server_->port(), true);
  RawClient slow_body(server_->port(), true);

  slow_headers.say("GET / HTTP/1.1\r\nHost:");
  slow_body.say("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123");

  EXPECT_EQ(mute.hear_all(), "");
  EXPECT_EQ(slow_headers.hear_all(), "");
  EXPECT_EQ(slow_body.hear_all(), "");
  EXPECT_TRUE(mute.was_closed());
  EXPECT_TRUE(slow_headers.was_closed());
  EXPECT_TRUE(slow_body.was_closed());
  EXPECT_EQ(server_->stats().requests, 0u);
}

TEST_F(FrontDoorTest, ManyClientsAtOnceAllGetTheirOwnAnswer) {
  start([](HttpRequest request, Responder responder) {
    responder.send({.status = 200, .body = request.path});
  });
  std::atomic<int> right = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 16; ++t) {
      threads.emplace_back([&, t] {
        HttpsClient one(server_->port(), server_->ca_file());
        for (int i = 0; i < 20; ++i) {
          const std::string path = "/" + std::to_string(t) + "/" + std::to_string(i);
          if (one.request("GET", path).body == path) ++right;
        }
      });
    }
  }

  EXPECT_EQ(right, 16 * 20);
}

TEST_F(FrontDoorTest, ATakenPortIsAClearError) {
  start(echo());
  options_.port = server_->port();

  const auto second = Server::start(options_, clock_, anybody(), echo());

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(second.error().what, HasSubstr(std::to_string(server_->port())));
  EXPECT_THAT(second.error().advice, HasSubstr("port"));
}

TEST_F(FrontDoorTest, AnAddressThatIsNoneIsAClearError) {
  options_.address = "vault";

  const auto server = Server::start(options_, clock_, anybody(), echo());

  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace farside::front_door
