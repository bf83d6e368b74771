// A program of ours from its start on, as systemd or an operator sees it.
#include "common/shell/service.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "common/reactor/watchdog.h"
#include "tests/support/temp_folder.h"

namespace farside::shell {
namespace {

void start_and_get_stuck(const std::string& folder) {
  const auto service = Service::open("farside-test", {.data_dir = folder,
                                                      .log_level = "info",
                                                      .metrics_address = "127.0.0.1",
                                                      .metrics_port = 0,
                                                      .workers = 1,
                                                      .watchdog_seconds = 1});
  if (!service) ::_exit(1);
  std::promise<void> never;  // A library that does not come back, say.
  never.get_future().wait_for(std::chrono::minutes(1));
  ::_exit(0);
}

TEST(ServiceDeathTest, AStartThatHangsEndsWithItsStacks) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer lets no thread answer for its stack";
#endif
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const test::TempFolder folder;
  EXPECT_EXIT(start_and_get_stuck(folder.path()),
              testing::ExitedWithCode(reactor::kStalledExitStatus),
              "the start of the process has stood for 1 s.*Its threads");
}

TEST(ServiceTest, WhatItWritesIsNobodyElses) {
  const mode_t before = ::umask(022);
  const test::TempFolder folder;
  {
    const auto service = Service::open("farside-test", {.data_dir = folder / "data",
                                                        .log_level = "info",
                                                        .metrics_address = "127.0.0.1",
                                                        .metrics_port = 0,
                                                        .workers = 1});
    ASSERT_TRUE(service) << to_text(service.error());
    std::filesystem::create_directory(folder / "made");
  }
  ::umask(before);

  std::vector<std::string> open_to_others;
  for (const auto& one : std::filesystem::recursive_directory_iterator(folder.path())) {
    struct stat facts{};
    ASSERT_EQ(::lstat(one.path().c_str(), &facts), 0);
    if ((facts.st_mode & 077U) != 0) open_to_others.push_back(one.path());
  }
  EXPECT_EQ(open_to_others, std::vector<std::string>{});
  EXPECT_TRUE(std::filesystem::exists(folder / "data/state")) << "there was something to look at";
}

}  // namespace
}  // namespace farside::shell
