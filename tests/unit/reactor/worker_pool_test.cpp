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

}  // namespace
}  // namespace farside::reactor
