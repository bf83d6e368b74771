#include "common/reactor/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <map>

namespace farside::reactor {
namespace {

const msg::Message kUrgent = msg::Message(msg::EnforceFences{});
const msg::Message kOrdinary = msg::Message(msg::ObserveHost{});

bool is_urgent(const msg::Message& job) {
  return std::holds_alternative<msg::EnforceFences>(job.value);
}

// Results as they come, by id; waits for `count` of them.
std::map<std::string, Result<msg::Message>> collect(WorkerPool& pool, std::size_t count) {
  std::map<std::string, Result<msg::Message>> out;
  while (out.size() < count) {
    pool.collect([&](const std::string& id, Result<msg::Message> result) {
      out.emplace(id, std::move(result));
    });
    std::this_thread::yield();
  }
  return out;
}

TEST(WorkerPool, UrgentJobsRunWhileAllOthersHang) {
  std::promise<void> release;
  const auto released = release.get_future().share();
  WorkerPool pool(
      {.threads = 2, .urgent_threads = 1, .is_urgent = is_urgent},
      [&](const std::string&, const msg::Message& job) -> Result<msg::Message> {
        if (!is_urgent(job)) released.wait();
        return job;
      },
      [] {});
  for (const char* id : {"a", "b", "c"}) pool.start(id, kOrdinary);

  pool.start("fence", kUrgent);
  const auto first = collect(pool, 1);

  EXPECT_TRUE(first.contains("fence"));
  release.set_value();
  EXPECT_EQ(collect(pool, 3).size(), 3U);
}

TEST(WorkerPool, AJobWithTheIdOfARunningOneIsDropped) {
  std::promise<void> release;
  const auto released = release.get_future().share();
  std::atomic<int> runs = 0;
  WorkerPool pool(
      {.threads = 2},
      [&](const std::string&, const msg::Message& job) -> Result<msg::Message> {
        ++runs;
        released.wait();
        return job;
      },
      [] {});

  pool.start("same", kOrdinary);
  pool.start("same", kOrdinary);
  release.set_value();
  collect(pool, 1);

  EXPECT_EQ(runs, 1);
}

TEST(WorkerPool, AFullQueueEndsTheJobInsteadOfGrowing) {
  std::promise<void> release;
  const auto released = release.get_future().share();
  WorkerPool pool(
      {.threads = 1, .queue_max = 2},
      [&](const std::string&, const msg::Message& job) -> Result<msg::Message> {
        released.wait();
        return job;
      },
      [] {});
  for (int i = 0; i < 10; ++i) pool.start("job-" + std::to_string(i), kOrdinary);

  release.set_value();
  const auto results = collect(pool, 10);

  int refused = 0;
  for (const auto& [id, result] : results) {
    if (!result) {
      EXPECT_EQ(result.error().code, ErrorCode::kUnavailable);
      ++refused;
    }
  }
  EXPECT_GE(refused, 7) << "one runs at most, two wait";
}

// ---- Jobs that hang

// Problems as they come and go.
class Problems {
 public:
  WorkerPool::OnProblem sink() {
    return [this](const std::string& part, const std::string& problem) {
      const std::lock_guard lock(mutex_);
      if (problem.empty()) {
        by_part_.erase(part);
      } else {
        by_part_[part] = problem;
      }
      changed_.notify_all();
    };
  }
  // Waits until `part` has a problem, or none; false if that takes too long.
  bool becomes(const std::string& part, bool bad) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60),
                             [&] { return by_part_.contains(part) == bad; });
  }
  std::string text(const std::string& part) {
    const std::lock_guard lock(mutex_);
    const auto found = by_part_.find(part);
    return found == by_part_.end() ? "" : found->second;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> by_part_;
};

Patience short_for_ordinary(const msg::Message& job) {
  if (is_urgent(job)) return {};
  return {.max = std::chrono::milliseconds(30), .of = "item web on /srv"};
}

constexpr Micros kOften = std::chrono::milliseconds(5);

TEST(WorkerPoolWatch, AJobThatHangsIsToldOfAndLosesItsPlaceToAFreshThread) {
  std::promise<void> release;
  const auto released = release.get_future().share();
  Problems problems;
  WorkerPool pool(
      {.threads = 1,
       .look_every = kOften,
       .patience = short_for_ordinary,
       .on_problem = problems.sink()},
      [&](const std::string& id, const msg::Message& job) -> Result<msg::Message> {
        if (id == "hangs") released.wait();
        return job;
      },
      [] {});

  pool.start("hangs", kOrdinary);
  pool.start("behind it", kOrdinary);
  const auto first = collect(pool, 1);

  EXPECT_TRUE(first.contains("behind it"));
  EXPECT_TRUE(problems.becomes("job hangs", true));
  EXPECT_NE(problems.text("job hangs").find("item web on /srv"), std::string::npos);
  EXPECT_EQ(pool.threads(), 2U);

  release.set_value();
  EXPECT_TRUE(collect(pool, 1).contains("hangs")) << "what it returns still counts";
  EXPECT_TRUE(problems.becomes("job hangs", false));
  while (pool.threads() > 1) std::this_thread::yield();  // The surplus thread ends.
  pool.start("afterwards", kUrgent);
  EXPECT_TRUE(collect(pool, 1).contains("afterwards"));
}

TEST(WorkerPoolWatch, NoMoreThreadsThanTheBoundTakeThePlacesOfJobsThatHang) {
  std::promise<void> release;
  const auto released = release.get_future().share();
  Problems problems;
  WorkerPool pool(
      {.threads = 1,
       .replacements_max = 2,
       .look_every = kOften,
       .patience = short_for_ordinary,
       .on_problem = problems.sink()},
      [&](const std::string&, const msg::Message& job) -> Result<msg::Message> {
        released.wait();
        return job;
      },
      [] {});

  for (const char* id : {"a", "b", "c"}) {
    pool.start(id, kOrdinary);
    EXPECT_TRUE(problems.becomes(std::string("job ") + id, true));
  }

  EXPECT_EQ(pool.threads(), 3U);
  EXPECT_NE(problems.text("job c").find("lost to other jobs"), std::string::npos);
  release.set_value();
  EXPECT_EQ(collect(pool, 3).size(), 3U);
}

TEST(WorkerPoolWatch, ALongJobIsJudgedByItsProgress) {
  std::promise<void> release;
  const auto released = release.get_future().share();
  Problems problems;
  WorkerPool pool(
      {.threads = 1,
       .look_every = kOften,
       .patience = [](const msg::Message&) -> Patience {
         return {.max = std::chrono::seconds(2), .by_progress = true, .of = "item web"};
       },
       .on_problem = problems.sink()},
      [&](const std::string&, const msg::Message& job) -> Result<msg::Message> {
        released.wait();
        return job;
      },
      [] {});
  pool.start("copy", kOrdinary);

  // Getting on for longer than it may stand is no problem ...
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(2500);
  for (std::uint64_t done = 1; std::chrono::steady_clock::now() < until; ++done) {
    pool.moved("copy", done);
    EXPECT_EQ(problems.text("job copy"), "");
    std::this_thread::yield();
  }

  // ... repeating the same figure is, until it gets on again.
  for (int i = 0; i < 100; ++i) pool.moved("copy", 1);
  EXPECT_TRUE(problems.becomes("job copy", true));
  pool.moved("copy", 2);
  EXPECT_TRUE(problems.becomes("job copy", false));
  release.set_value();
  EXPECT_TRUE(collect(pool, 1).contains("copy"));
}

TEST(WorkerPoolWatch, WhatMustBeTriedAgainIsTriedBesideTheTryThatHangs) {
  std::promise<void> release;
  const auto released = release.get_future().share();
  std::atomic<int> runs = 0;
  Problems problems;
  WorkerPool pool(
      {.threads = 1,
       .repeats_max = 2,
       .look_every = kOften,
       .patience = [](const msg::Message&) -> Patience {
         return {.max = std::chrono::milliseconds(30), .may_repeat = true};
       },
       .on_problem = problems.sink()},
      [&](const std::string&, const msg::Message& job) -> Result<msg::Message> {
        ++runs;
        released.wait();
        return job;
      },
      [] {});

  for (int i = 0; i < 4; ++i) {
    pool.start("fences", kUrgent);
    const auto results = collect(pool, 1);
    ASSERT_FALSE(results.at("fences"));
    EXPECT_EQ(results.at("fences").error().code, ErrorCode::kTimeout);
  }

  EXPECT_EQ(runs, 2) << "no more than the bound hang";
  EXPECT_TRUE(problems.becomes("job fences", true));
  release.set_value();
  EXPECT_TRUE(problems.becomes("job fences", false));
  pool.start("fences", kUrgent);
  EXPECT_TRUE(collect(pool, 1).at("fences")) << "those that hung returned nothing";
}

}  // namespace
}  // namespace farside::reactor
