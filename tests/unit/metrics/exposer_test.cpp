#include "common/metrics/exposer.h"

#include <curl/curl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

namespace farside::metrics {
namespace {

using testing::HasSubstr;

struct Answer {
  long status = 0;
  std::string body;
};

std::size_t append(char* bytes, std::size_t, std::size_t count, void* out) {
  static_cast<std::string*>(out)->append(bytes, count);
  return count;
}

Answer get(std::uint16_t port, const std::string& path) {
  Answer answer;
  CURL* curl = curl_easy_init();
  const std::string url = "http://127.0.0.1:" + std::to_string(port) + path;
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, 20L);
  curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer.body);
  EXPECT_EQ(curl_easy_perform(curl), CURLE_OK);
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
  curl_easy_cleanup(curl);
  return answer;
}

TEST(ExposerTest, ServesTheFiguresAsTheyAreNow) {
  Registry registry;
  Counter turns = registry.counter("farside_turns_total", "Turns.");
  const auto exposer = Exposer::start("127.0.0.1", 0, registry, {});
  ASSERT_TRUE(exposer) << exposer.error().what;

  turns.add(41);
  EXPECT_THAT(get((*exposer)->port(), "/metrics").body, HasSubstr("farside_turns_total 41"));
  turns.add();
  const Answer answer = get((*exposer)->port(), "/metrics");

  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr("farside_turns_total 42"));
}

TEST(ExposerTest, WhatIsWrongElsewhereIsToldUnderAStatusThatStartsNobodyAgain) {
  Registry registry;
  std::string problem;
  const auto exposer = Exposer::start(
      "127.0.0.1", 0, registry, [&] { return problem; }, [] { return "critical: web: too old"; });
  ASSERT_TRUE(exposer) << exposer.error().what;

  const Answer well = get((*exposer)->port(), "/healthz");
  problem = "reactor has not turned for 40 s";
  const Answer ill = get((*exposer)->port(), "/healthz");

  EXPECT_EQ(well.status, 200);
  EXPECT_EQ(well.body, "ok, but\ncritical: web: too old\n");
  EXPECT_EQ(ill.status, 503);
  EXPECT_THAT(ill.body, HasSubstr("reactor has not turned"));
}

TEST(ExposerTest, HealthFollowsWhatTheProcessSays) {
  Registry registry;
  std::atomic<bool> well = true;
  const auto exposer = Exposer::start("127.0.0.1", 0, registry, [&] {
    return well ? std::string() : std::string("reactor has not turned for 40 s");
  });
  ASSERT_TRUE(exposer) << exposer.error().what;

  const Answer before = get((*exposer)->port(), "/healthz");
  well = false;
  const Answer after = get((*exposer)->port(), "/healthz");

  EXPECT_EQ(before.status, 200);
  EXPECT_EQ(before.body, "ok\n");
  EXPECT_EQ(after.status, 503);
  EXPECT_EQ(after.body, "reactor has not turned for 40 s\n");
}

TEST(ExposerTest, OtherPathsAreNotFound) {
  Registry registry;
  const auto exposer = Exposer::start("127.0.0.1", 0, registry, {});
  ASSERT_TRUE(exposer) << exposer.error().what;

  EXPECT_EQ(get((*exposer)->port(), "/").status, 404);
  EXPECT_EQ(get((*exposer)->port(), "/metricsandmore").status, 404);
}

TEST(ExposerTest, ATakenPortIsAClearError) {
  Registry registry;
  const auto first = Exposer::start("127.0.0.1", 0, registry, {});
  ASSERT_TRUE(first) << first.error().what;

  const auto second = Exposer::start("127.0.0.1", (*first)->port(), registry, {});

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(second.error().what, HasSubstr("127.0.0.1:" + std::to_string((*first)->port())));
  EXPECT_THAT(second.error().advice, HasSubstr("port"));
}

}  // namespace
}  // namespace farside::metrics
