#include "tests/support/cut_disk/cut_disk.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "common/base/file.h"

namespace farside::test {
namespace {

constexpr int kAnswerMs = 30'000;

}  // namespace

std::string no_cut_disk() {
  if (::geteuid() != 0) return "only root may mount the volume that loses its power";
  if (::access("/dev/fuse", R_OK | W_OK) != 0) return "/dev/fuse is missing";
  return {};
}

Result<std::unique_ptr<CutDisk>> CutDisk::mount() {
  std::unique_ptr<CutDisk> disk(new CutDisk());
  FARSIDE_TRY(make_folders(disk->mountpoint_));
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0) {
    return fail(ErrorCode::kUnavailable, "no pipe");
  }
  disk->orders_ = in[1];
  disk->answers_ = out[0];
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  std::string program = FARSIDE_CUT_DISK;
  std::array<char*, 3> words{program.data(), disk->mountpoint_.data(), nullptr};
  const int failed =
      ::posix_spawn(&disk->pid_, program.c_str(), &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(in[0]);
  ::close(out[1]);
  if (failed != 0) return fail(from_errno(failed, "start " + program));
  if (const std::string said = disk->line(); said != "mounted") {
    return fail(ErrorCode::kUnavailable, "cut-disk: " + said);
  }
  return disk;
}

// Unmounted before the folder is removed, which would else empty the volume first.
CutDisk::~CutDisk() {
  if (orders_ >= 0) ::close(orders_);
  if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
  if (answers_ >= 0) ::close(answers_);
}

std::string CutDisk::line() {
  std::string said;
  for (;;) {
    pollfd ready{.fd = answers_, .events = POLLIN, .revents = 0};
    char c = 0;
    if (::poll(&ready, 1, kAnswerMs) != 1 || ::read(answers_, &c, 1) != 1) return "no answer";
    if (c == '\n') return said;
    said += c;
  }
}

std::string CutDisk::ask(const std::string& order) {
  const std::string text = order + "\n";
  if (::write(orders_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) return {};
  return line();
}

void CutDisk::power_off_after(std::uint64_t operations) {
  ask("after " + std::to_string(operations));
}

bool CutDisk::is_off() {
  return ask("state").starts_with("off");
}

void CutDisk::go_on() {
  ask("on");
}

void CutDisk::cut(bool is_torn, std::uint64_t seed) {
  ask((is_torn ? "cut torn " : "cut lost ") + std::to_string(seed));
}

void CutDisk::lie_about(const std::string& what) {
  ask("lie " + what);
}

}  // namespace farside::test
