#include "common/reactor/stacks.h"

#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <tuple>
#include <vector>

namespace farside::reactor {
namespace {

constexpr int kFramesMax = 64;
constexpr int kAnswerMs = 500;  // A thread that runs or waits answers within microseconds.
constexpr std::size_t kPieceBytes = 4096;  // What a pipe that can be written takes at once.
constexpr int kWriteMs = 2'000;

// Where the thread that is asked leaves its answer.  `asked` is a ticket: a thread that answers
// too late must not write over the answer of the next.
struct Answer {
  std::atomic<pid_t> asked{0};
  std::atomic<bool> is_there{false};
  std::array<void*, kFramesMax> frames{};
  int count = 0;
};
Answer answer;
static_assert(std::atomic<pid_t>::is_always_lock_free);

int stack_signal() {
  return SIGRTMIN + 3;
}

pid_t own_thread() {
  return static_cast<pid_t>(::syscall(SYS_gettid));
}

void on_signal(int) {
  const int before = errno;
  pid_t expected = own_thread();
  if (answer.asked.compare_exchange_strong(expected, -1)) {
    answer.count = ::backtrace(answer.frames.data(), kFramesMax);
    answer.is_there.store(true, std::memory_order_release);
  }
  errno = before;
}

void pause_ms(int ms) {
  ::poll(nullptr, 0, ms);
}

std::vector<pid_t> threads() {
  std::vector<pid_t> out;
  DIR* folder = ::opendir("/proc/self/task");
  if (folder == nullptr) return out;
  while (const dirent* entry = ::readdir(folder)) {
    const auto thread = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (thread > 0) out.push_back(thread);
  }
  ::closedir(folder);
  std::ranges::sort(out);
  return out;
}

std::string read_all(int fd) {
  std::string out;
  std::array<char, 4096> piece{};
  for (;;) {
    // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): of /proc, it does not block.
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got <= 0) return out;
    out.append(piece.data(), static_cast<std::size_t>(got));
  }
}

std::string told_of(pid_t thread, const char* what) {
  const std::string path = "/proc/self/task/" + std::to_string(thread) + "/" + what;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "?";
  std::string text = read_all(fd);
  ::close(fd);
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

// libzmq's own threads do; they would be waited for in vain.
bool blocks_signals(pid_t thread) {
  const std::string status = told_of(thread, "status");
  constexpr std::string_view kBlocked = "SigBlk:";
  const std::size_t at = status.find(kBlocked);
  if (at == std::string::npos) return false;
  const auto mask = std::strtoull(status.c_str() + at + kBlocked.size(), nullptr, 16);
  return (mask >> static_cast<unsigned>(stack_signal() - 1) & 1U) != 0;
}

// True once the thread has left its frames in `answer`.
bool ask(pid_t thread) {
  answer.is_there = false;
  answer.asked = thread;
  if (::syscall(SYS_tgkill, ::getpid(), thread, stack_signal()) != 0) {
    answer.asked = 0;
    return false;
  }
  for (int waited = 0; waited < kAnswerMs; ++waited) {
    if (answer.is_there.load(std::memory_order_acquire)) return true;
    pause_ms(1);
  }
  pid_t expected = thread;
  if (answer.asked.compare_exchange_strong(expected, 0)) return false;
  // It has begun to answer: the frames are being written.
  for (int waited = 0; waited < kAnswerMs; ++waited) {
    if (answer.is_there.load(std::memory_order_acquire)) return true;
    pause_ms(1);
  }
  return false;
}

std::string frames_text() {
  const int fd = ::memfd_create("stack", MFD_CLOEXEC);
  if (fd < 0) return "  (no memory for the frames)\n";
  ::backtrace_symbols_fd(answer.frames.data(), answer.count, fd);
  ::lseek(fd, 0, SEEK_SET);
  const std::string raw = read_all(fd);
  ::close(fd);
  std::string out;
  std::size_t from = 0;
  while (from < raw.size()) {
    const std::size_t end = std::min(raw.find('\n', from), raw.size());
    out += "  " + raw.substr(from, end - from) + "\n";
    from = end + 1;
  }
  return out;
}

}  // namespace

void prepare_stacks() {
  static std::once_flag once;
  std::call_once(once, [] {
    // The first call loads libgcc, which must not happen inside a signal's handler.
    std::array<void*, 4> frames{};
    std::ignore = ::backtrace(frames.data(), static_cast<int>(frames.size()));
    struct sigaction action{};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    ::sigaction(stack_signal(), &action, nullptr);
  });
}

// ThreadSanitizer keeps a signal back until its thread calls into it, and unwinding from there
// waits for locks of its own: threads are only named then.
#ifdef __SANITIZE_THREAD__
constexpr bool kMayAsk = false;
#else
constexpr bool kMayAsk = true;
#endif

std::string stacks_of_all_threads() {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  prepare_stacks();
  std::string out;
  for (const pid_t thread : threads()) {
    if (thread == own_thread()) continue;
    out += "thread " + std::to_string(thread) + " (" + told_of(thread, "comm") + ")\n";
    if (kMayAsk && !blocks_signals(thread) && ask(thread)) {
      out += frames_text();
    } else {
      out += "  (it does not answer; in the kernel it is at " + told_of(thread, "wchan") + ")\n";
    }
  }
  return out;
}

void write_past_the_log(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    pollfd out{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (::poll(&out, 1, kWriteMs) <= 0) return;
    const ssize_t written =
        ::write(STDERR_FILENO, text.data() + at, std::min(kPieceBytes, text.size() - at));
    if (written <= 0) return;
    at += static_cast<std::size_t>(written);
  }
}

}  // namespace farside::reactor
