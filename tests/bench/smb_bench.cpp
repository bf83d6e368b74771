// Changed extents of a file on a share, read by Share through farside-smb, against `smbclient get`
// of a file of as many bytes from the same smbd: in turns, in one run.  Prints one JSON object.
//
//   smb_bench [MiB of extents, 512] [MiB of the file, 2048]
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "services/agent/platforms/hyperv/smb/share.h"
#include "tests/support/samba/samba_server.h"

namespace farside {
namespace {

namespace smb = agent::smb;

constexpr int kRounds = 3;
constexpr std::uint64_t kMiB = 1U << 20U;

int complain(const Error& error) {
  fmt::print(stderr, "smb_bench: {}\n", to_text(error));
  return 1;
}

bool write_file(const std::string& path, std::uint64_t bytes, Random& random) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  std::string block(kMiB, '\0');
  bool good = true;
  for (std::uint64_t at = 0; good && at < bytes; at += kMiB) {
    for (std::size_t i = 0; i < kMiB; i += 4096) {
      const std::uint64_t number = random.next();
      block.replace(i, sizeof number, reinterpret_cast<const char*>(&number), sizeof number);
    }
    good = ::write(fd, block.data(), block.size()) == std::ssize(block);
  }
  ::close(fd);
  return good;
}

// 64 KiB to 1 MiB each, spread over the whole file, as guests dirty their disks.
std::vector<smb::Extent> extents_of(std::uint64_t bytes, std::uint64_t file_bytes, Random& random) {
  constexpr std::uint64_t kGrain = 64U << 10U;
  std::vector<smb::Extent> extents;
  std::uint64_t left = bytes;
  std::vector<std::uint64_t> lengths;
  while (left > 0) {
    const std::uint64_t length = std::min(left, kGrain * (1 + random.below(16)));
    lengths.push_back(length);
    left -= length;
  }
  const std::uint64_t free = (file_bytes - bytes) / kGrain;
  std::vector<std::uint64_t> gaps;
  for (std::size_t i = 0; i < lengths.size(); ++i) gaps.push_back(random.below(free + 1));
  std::ranges::sort(gaps);
  std::uint64_t used = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    extents.push_back({.offset = gaps[i] * kGrain + used, .length = lengths[i]});
    used += lengths[i];
  }
  return extents;
}

bool smbclient_get(const test::SambaServer& server, const std::string& login,
                   const std::string& to) {
  std::vector<std::string> words{"/usr/bin/smbclient",
                                 "-p",
                                 std::to_string(server.port()),
                                 "-A",
                                 login,
                                 "//127.0.0.1/vms",
                                 "-c",
                                 "get same " + to};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = -1;
  int status = -1;
  if (::posix_spawn(&pid, words[0].c_str(), &actions, nullptr, arguments.data(), environ) == 0) {
    ::waitpid(pid, &status, 0);
  }
  ::posix_spawn_file_actions_destroy(&actions);
  return status == 0;
}

int run(std::uint64_t bytes, std::uint64_t file_bytes) {
  const test::TempFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  SeededRandom random(1);
  if (!write_file(folder / "disk", file_bytes, random) ||
      !write_file(folder / "same", bytes, random)) {
    return complain({.code = ErrorCode::kIo, .what = "cannot write the files", .advice = {}});
  }
  auto server = test::SambaServer::start({.shares = {{.name = "vms", .folder = folder.path()}}});
  if (!server) return complain(server.error());
  const test::SambaOptions& login = (*server)->options();
  const std::string login_file = folder / "login";
  if (std::FILE* out = std::fopen(login_file.c_str(), "w"); out != nullptr) {
    fmt::print(out, "username={}\npassword={}\n", login.user, login.password);
    std::fclose(out);
  }
  smb::Share share({.server = "127.0.0.1",
                    .port = (*server)->port(),
                    .share = "vms",
                    .domain = login.domain,
                    .user = login.user,
                    .password = login.password});
  const auto file = share.open("disk", smb::Access::kRead);
  if (!file) return complain(file.error());

  const auto extents = extents_of(bytes, file_bytes, random);
  std::string buffer(64 * kMiB, '\0');
  const SystemClock clock;
  std::vector<double> ours;
  std::vector<double> theirs;
  std::size_t requests = 0;
  for (int round = 0; round < kRounds; ++round) {
    auto start = clock.monotonic();
    requests = 0;
    for (std::size_t next = 0; next < extents.size();) {  // As much as the buffer takes.
      std::vector<smb::Extent> some;
      std::vector<char*> to;
      for (std::size_t used = 0;
           next < extents.size() && used + extents[next].length <= buffer.size(); ++next) {
        to.push_back(buffer.data() + used);
        some.push_back(extents[next]);
        used += extents[next].length;
      }
      requests += smb::coalesce(some, smb::kGapBytes, smb::kPieceBytes).size();
      const Status read = share.read_extents(*file, some, to);
      if (!read) return complain(read.error());
    }
    ours.push_back(static_cast<double>((clock.monotonic() - start).count()) / 1e6);
    start = clock.monotonic();
    if (!smbclient_get(**server, login_file, "/dev/null")) {
      return complain({.code = ErrorCode::kIo, .what = "smbclient failed", .advice = {}});
    }
    theirs.push_back(static_cast<double>((clock.monotonic() - start).count()) / 1e6);
  }
  std::ranges::sort(ours);
  std::ranges::sort(theirs);
  const double size = static_cast<double>(bytes) / static_cast<double>(kMiB);
  const double mine = size / ours[kRounds / 2];
  const double other = size / theirs[kRounds / 2];
  fmt::print(
      "{{\"bench\":\"smb_extents\",\"extents\":{},\"requests\":{},\"mebibytes\":{:.0f},"
      "\"mebibytesPerSecond\":{:.0f},\"smbclientMebibytesPerSecond\":{:.0f},\"ratio\":{:.2f}}}\n",
      extents.size(), requests, size, mine, other, mine / other);
  return 0;
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  const std::uint64_t mib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 512;
  const std::uint64_t file_mib = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 2048;
  return farside::run(mib << 20U, file_mib << 20U);
}
