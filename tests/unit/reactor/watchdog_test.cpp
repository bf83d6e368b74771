#include "common/reactor/watchdog.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <future>

#include "common/base/random.h"
#include "common/reactor/reactor.h"
#include "common/reactor/stacks.h"
#include "common/store/mem_store.h"

// Outside any anonymous namespace: only exported functions have a name in a stack.
extern "C" {
[[gnu::noinline]] void stand_in_a_loop_for_ever(const std::atomic<bool>* never) {
  while (!never->load()) {
    std::mutex alone;
    std::unique_lock lock(alone);
    std::condition_variable().wait_for(lock, std::chrono::milliseconds(20));
  }
}
[[gnu::noinline]] int wait_beside_it(const std::shared_future<int>* end) {
  return end->get() + 1;
}
}

namespace farside::reactor {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class SilentBus final : public Bus {
 public:
  Status set_peer(const msg::Peer&) override { return {}; }
  void remove_peer(const std::string&) override {}
  void send(const std::string&, std::string) override {}
  Status poll(int timeout_ms, int, const Handlers&) override {
    std::mutex alone;
    std::unique_lock lock(alone);
    std::condition_variable().wait_for(lock, milliseconds(timeout_ms));
    return {};
  }
  void wake() override {}
};

class NoWorkers final : public Workers {
 public:
  void start(const std::string&, msg::Message) override {}
  void collect(const OnResult&) override {}
};

class CoreThatHangs final : public Core {
 public:
  void start(Effects& effects) override { effects.set_timer("hang", milliseconds(50)); }
  void on_message(const PeerId&, const msg::Envelope&, Effects&) override {}
  void on_job(const std::string&, const Result<msg::Message>&, Effects&) override {}
  void on_timer(const std::string&, Effects&) override { stand_in_a_loop_for_ever(&never_); }
  void on_peer(const PeerChange&, Effects&) override {}

 private:
  std::atomic<bool> never_{false};
};

// A process as small as one can be: a reactor, its watchdog and another thread.
void run_a_process_whose_core_hangs() {
  const SystemClock clock;
  std::promise<int> never;
  const auto end = never.get_future().share();
  std::thread other([&] { std::ignore = wait_beside_it(&end); });
  CoreThatHangs core;
  store::MemStore store;
  SilentBus bus;
  NoWorkers workers;
  SystemRandom random;
  Reactor reactor({.self = "test",
                   .core = core,
                   .store = store,
                   .bus = bus,
                   .workers = workers,
                   .clock = clock,
                   .random = random});
  const Watchdog watchdog({.stands_max = milliseconds(300), .look_every = milliseconds(20)}, clock);
  Beat beat("the reactor");
  std::ignore = reactor.start();
  while (reactor.turn(20)) beat.beat();
}

TEST(WatchdogDeathTest, ALoopThatHangsEndsTheProcessWithTheStacksOfAllThreads) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer lets no thread answer for its stack";
#endif
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_a_process_whose_core_hangs(), testing::ExitedWithCode(kStalledExitStatus),
              "watchdog: the reactor has stood.*(stand_in_a_loop_for_ever.*wait_beside_it|"
              "wait_beside_it.*stand_in_a_loop_for_ever)");
}

void run_a_process_that_is_asked_where_it_stands() {
  const SystemClock clock;
  std::promise<int> never;
  const auto end = never.get_future().share();
  std::thread other([&] { std::ignore = wait_beside_it(&end); });
  const Watchdog watchdog({.look_every = milliseconds(20)}, clock);
  std::raise(SIGQUIT);
  end.wait_for(seconds(2));  // Far longer than it takes.
  ::_exit(0);
}

TEST(WatchdogDeathTest, AskedByASignalAProcessTellsWhereItStandsAndGoesOn) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer lets no thread answer for its stack";
#endif
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_a_process_that_is_asked_where_it_stands(), testing::ExitedWithCode(0),
              "asked where the threads stand:.*wait_beside_it");
}

TEST(WatchdogTest, ALoopThatTurnsIsLeftAlone) {
  const SystemClock clock;
  std::atomic<int> stalls{0};
  const Watchdog watchdog({.stands_max = seconds(5),
                           .look_every = milliseconds(1),
                           .on_stall = [&](const std::string&) { ++stalls; }},
                          clock);
  Beat beat("a loop");

  const auto until = clock.monotonic() + milliseconds(300);
  while (clock.monotonic() < until) beat.beat();

  EXPECT_EQ(stalls, 0);
}

TEST(WatchdogTest, NamesTheLoopThatStandsAndNotTheOthers) {
  const SystemClock clock;
  std::promise<std::string> told;
  std::once_flag once;
  Beat turning("the one that turns");
  const Beat standing("the one that stands");
  std::atomic<bool> enough{false};
  std::thread turns([&] {
    while (!enough) turning.beat();
  });
  {
    const Watchdog watchdog({.stands_max = milliseconds(200),
                             .look_every = milliseconds(10),
                             .on_stall =
                                 [&](const std::string& loops) {
                                   std::call_once(once, [&] { told.set_value(loops); });
                                 }},
                            clock);
    auto names = told.get_future();
    ASSERT_EQ(names.wait_for(seconds(30)), std::future_status::ready);
    EXPECT_EQ(names.get(), "the one that stands");
  }
  enough = true;
  turns.join();
}

TEST(StacksTest, AThreadThatBlocksSignalsIsNamedAndKeepsNobodyWaiting) {
  std::promise<int> end;
  std::promise<void> began;
  std::thread deaf([&, ended = end.get_future().share()] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pthread_setname_np(pthread_self(), "the-deaf-one");
    began.set_value();
    std::ignore = wait_beside_it(&ended);
  });
  began.get_future().wait();

  const auto stacks = stacks_of_all_threads();

  const auto at = stacks.find("(the-deaf-one)\n  (it does not answer");
  EXPECT_NE(at, std::string::npos) << stacks;
  end.set_value(1);
  deaf.join();
}

TEST(StacksTest, TellOfAThreadThatWaits) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer lets no thread answer for its stack";
#endif
  std::promise<int> end;
  const auto ended = end.get_future().share();
  std::promise<void> began;
  std::thread other([&] {
    began.set_value();
    std::ignore = wait_beside_it(&ended);
  });
  began.get_future().wait();

  // It may be seen on its way there.
  std::string stacks;
  for (int i = 0; i < 1000 && !stacks.contains("wait_beside_it"); ++i) {
    stacks = stacks_of_all_threads();
  }

  EXPECT_TRUE(stacks.contains("wait_beside_it")) << stacks;
  end.set_value(1);
  other.join();
}

}  // namespace
}  // namespace farside::reactor
