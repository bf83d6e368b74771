#include "cli/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <sstream>
#include <thread>

#include "cli/app.h"
#include "cli/format.h"
#include "cli/screen.h"
#include "tests/unit/cli/test_vault.h"

namespace farside::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const Time kNow = time_from_iso("2026-03-01T12:00:40Z").value();

Snapshot snapshot() {
  Snapshot out;
  out.items.push_back({{"name", "id-1"},
                       {"properties",
                        {{"friendlyName", "web"},
                         {"protectionStateDescription", "Protected"},
                         {"replicationHealth", "Normal"},
                         {"primaryFabricFriendlyName", "west"},
                         {"primaryProtectionContainerFriendlyName", "gold"},
                         {"recoveryFabricFriendlyName", "east"},
                         {"recoveryProtectionContainerFriendlyName", "silver"},
                         {"testFailoverState", "WaitingForCleanup"},
                         {"farside",
                          {{"phase", "waiting"},
                           {"wireBytes", 2048},
                           {"newestPointTime", "2026-03-01T12:00:30.0000000Z"}}}}}});
  return out;
}

View view(Time now = kNow) {
  return {.url = "https://vault", .now = now, .no_answer = {}, .answered = kNow};
}

TEST(WatchTest, AgesGrowWhileNothingIsAnsweredAndItIsSaid) {
  auto old = view(kNow + std::chrono::seconds{20});
  old.no_answer = "the vault does not answer";

  EXPECT_THAT(picture(snapshot(), view()),
              AllOf(HasSubstr("10 s ago"), Not(HasSubstr("NO ANSWER"))));
  EXPECT_THAT(
      picture(snapshot(), old),
      AllOf(HasSubstr("30 s ago"),
            HasSubstr("NO ANSWER since 2026-03-01 12:00:40 UTC, 20 s: the vault does not")));
}

TEST(WatchTest, ATestVmThatWaitsForItsEndIsShown) {
  EXPECT_THAT(picture(snapshot(), view()), HasSubstr("test VM waits for clean-up"));
}

TEST(WatchTest, WhatIsWrongWithTheVaultAsAWholeIsShown) {
  auto with = snapshot();
  with.vault = {
      {"properties",
       {{"farside",
         {{"reasons",
           {{{"item", ""}, {"message", "the orchestrator is silent"}, {"advice", "start it"}},
            {{"item", "id-1"}, {"message", "told with the item"}, {"advice", ""}}}}}}}}};

  EXPECT_THAT(picture(with, view()),
              AllOf(HasSubstr("the orchestrator is silent\n  next: start it"),
                    Not(HasSubstr("told with the item"))));
}

TEST(WatchTest, OnANarrowTerminalWhatMattersLessGoesFirst) {
  auto narrow = view();
  narrow.columns = 80;
  const auto lines = picture(snapshot(), narrow);
  EXPECT_THAT(lines, AllOf(HasSubstr("NEWEST POINT"), HasSubstr("HEALTH"), HasSubstr("DOING"),
                           Not(HasSubstr("SENT")), Not(HasSubstr("WHERE"))));

  narrow.columns = 0;
  EXPECT_THAT(picture(snapshot(), narrow), AllOf(HasSubstr("SENT"), HasSubstr("WHERE")));
}

TEST(WatchTest, ATableLeavesOutNoMoreThanItHasTo) {
  const std::vector<std::string> headings{"A", "B", "C"};
  const std::vector<std::vector<std::string>> rows{{"1", "22222", "333"}};

  EXPECT_EQ(table_within(13, {"B", "A"}, headings, rows), table(headings, rows));
  EXPECT_EQ(table_within(12, {"B", "A"}, headings, rows), table({"A", "C"}, {{"1", "333"}}));
  EXPECT_EQ(table_within(1, {"B", "A"}, headings, rows), table({"C"}, {{"333"}}));
}

// A vault that takes requests and answers none: the picture says so and ages go on, long before
// the request is given up.
TEST(WatchTest, AVaultThatStandsIsSaidWithinSeconds) {
  ::setenv("COLUMNS", "200", 1);
  TestVault vault;
  vault.lists["replicationprotecteditems"] = snapshot().items;
  vault.lists["replicationjobs"] = {};
  vault.resources[""] = Json::object();
  std::mutex mutex;
  std::string said;
  class Sink final : public std::stringbuf {
   public:
    Sink(std::mutex& mutex, std::string& said) : mutex_(mutex), said_(said) {}
    int sync() override {
      const std::lock_guard lock(mutex_);
      said_ = str();
      return 0;
    }

   private:
    std::mutex& mutex_;
    std::string& said_;
  } sink(mutex, said);
  std::ostream out(&sink);
  std::ostringstream err;
  const auto has_said = [&](const std::string& what) {
    const std::lock_guard lock(mutex);
    return said.contains(what);
  };
  std::atomic<bool> stands = false;
  std::atomic<bool> ends = false;
  vault.before = [&](const Asked&) -> std::optional<front_door::HttpResponse> {
    while (stands && !ends) pause_for(std::chrono::milliseconds(10));
    if (ends) return front_door::HttpResponse{.status = 403, .headers = {}, .body = "{}"};
    return std::nullopt;
  };

  std::jthread watching([&] {
    run({"watch", "--interval", "1", "--vault-url", vault.url(), "--ca", vault.ca_file(),
         "--token-file", vault.token_file()},
        out, err, /*is_terminal=*/true);
  });
  const auto wait_for = [&](const std::string& what) {
    for (int i = 0; i < 6'000 && !has_said(what); ++i) pause_for(std::chrono::milliseconds(10));
    return has_said(what);
  };
  EXPECT_TRUE(wait_for("web"));
  EXPECT_FALSE(has_said("NO ANSWER"));
  stands = true;

  EXPECT_TRUE(wait_for("NO ANSWER since"));
  ends = true;  // Nothing makes the command end but an answer that makes no sense to repeat.
}

}  // namespace
}  // namespace farside::cli
