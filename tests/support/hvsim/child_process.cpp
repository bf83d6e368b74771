#include "tests/support/hvsim/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <fstream>
#include <iterator>
#include <mutex>
#include <thread>

namespace farside::hvsim {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kToolTime{60'000};
constexpr milliseconds kEndTime{10'000};

struct Order {
  std::vector<char*> words;  // With a null at the end.
  std::vector<int> kept;
  const char* log = nullptr;
  pid_t pid = -1;
  bool is_done = false;
};

// Between fork and exec: nothing that takes a lock or memory.
[[noreturn]] void become(const Order& order, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int nothing = ::open("/dev/null", O_RDONLY);
  const int log = ::open(order.log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (nothing < 0 || log < 0) ::_exit(127);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  for (const int fd : order.kept) ::fcntl(fd, F_SETFD, 0);
  ::execvp(order.words[0], order.words.data());
  ::_exit(127);
}

}  // namespace

Child::~Child() {
  kill();
}

void Child::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void Child::end() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGTERM);
  std::ignore = wait(kEndTime);
  kill();
}

Result<int> Child::wait(milliseconds within) {
  const auto deadline = steady_clock::now() + within;
  for (int pause_ms = 1; pid_ >= 0; pause_ms = std::min(pause_ms * 2, 20)) {
    int status = 0;
    const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
    if (ended != 0) {
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (steady_clock::now() >= deadline) return fail(ErrorCode::kTimeout, "a program goes on");
    ::poll(nullptr, 0, pause_ms);
  }
  return fail(ErrorCode::kNotFound, "the program has ended");
}

struct Spawner::Impl {
  std::mutex mutex;
  std::condition_variable changed;
  Order* order = nullptr;
  bool is_stopping = false;
  std::jthread thread;

  void work() {
    const pid_t self = ::getpid();
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return is_stopping || (order != nullptr && !order->is_done); });
      if (is_stopping) return;
      order->pid = ::fork();
      if (order->pid == 0) become(*order, self);
      order->is_done = true;
      changed.notify_all();
    }
  }
};

Spawner::Spawner() : impl_(new Impl) {
  impl_->thread = std::jthread([raw = impl_.get()] { raw->work(); });
}

Spawner::~Spawner() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->is_stopping = true;
  }
  impl_->changed.notify_all();
  impl_->thread.join();
}

Result<std::unique_ptr<Child>> Spawner::spawn(const std::vector<std::string>& words,
                                              const std::vector<int>& kept,
                                              const std::string& log) {
  Order order{.words = {}, .kept = kept, .log = log.c_str()};
  for (const std::string& word : words) order.words.push_back(const_cast<char*>(word.c_str()));
  order.words.push_back(nullptr);
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait(lock, [&] { return impl_->order == nullptr; });
  impl_->order = &order;
  impl_->changed.notify_all();
  impl_->changed.wait(lock, [&] { return order.is_done; });
  impl_->order = nullptr;
  impl_->changed.notify_all();
  if (order.pid < 0) return fail(ErrorCode::kUnavailable, "start " + words[0]);
  return std::make_unique<Child>(order.pid);
}

Status run_tool(Spawner& spawner, const std::vector<std::string>& words, const std::string& log) {
  FARSIDE_ASSIGN(const auto child, spawner.spawn(words, {}, log));
  FARSIDE_ASSIGN(const int code, child->wait(kToolTime));
  if (code == 0) return {};
  std::ifstream in(log);
  const std::string said{std::istreambuf_iterator<char>(in), {}};
  return fail(ErrorCode::kPlatform,
              fmt::format("{} ended with {}: {}", fmt::join(words, " "), code, said));
}

}  // namespace farside::hvsim
