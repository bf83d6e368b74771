// The workload of the witness guest: writes numbered records over all disks, one at a time, each
// flushed before the next begins, and says on its standard output which ones were acknowledged.
// What the disks hold at any instant therefore proves how far the history had come (checker.h).
//
//   witness [--OPTION=VALUE ...] [DISK ...]
//
// Options (in the guest: `witness.OPTION=VALUE` on the kernel command line):
//   run_id=TEXT    names the history; a disk of another run is refused       (default: random)
//   disks=N        waits for this many disks /dev/vd?                        (default: any)
//   slots=N        records kept on each disk, a power of two                 (default: 4096)
//   fill_mib=N     pseudo-random data written behind the records first       (default: 0)
//   zero_mib=N     zeros written behind that                                 (default: 0)
//   pace_ms=N      pause between records                                     (default: 20)
//   report_ms=N    how often the acknowledged number is printed              (default: 200)
//   count=N        stops after this many records                             (default: never)
//
// Prints: `witness: resumed seq=N`, `witness: alive seq=N`, `witness: acknowledged seq=N`,
// `witness: final seq=N`, `witness: failed ...`.  SIGTERM or the power button ends it; as process 1
// it then turns the machine off.  Between SIGUSR1 and SIGUSR2 it writes nothing: it creates the
// file /run/quiesced and prints `witness: quiesced seq=N`; that is what the guest agent asks for
// when a point shall be consistent for applications.  Linked statically: nothing but the standard
// library.
#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <vector>

#include "tests/support/guest/record.h"

namespace farside::guest {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kChunkBlocks = 256;

void say(const std::string& text) {
  const std::string line = "witness: " + text + "\n";
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t written = ::write(STDOUT_FILENO, line.data() + at, line.size() - at);
    if (written <= 0) return;
    at += static_cast<std::size_t>(written);
  }
}

[[noreturn]] void leave(int code) {
  if (::getpid() == 1) {
    ::sync();
    ::reboot(RB_POWER_OFF);
  }
  std::_Exit(code);
}

[[noreturn]] void give_up(const std::string& why) {
  say("failed " + why);
  leave(1);
}

std::uint64_t random_number() {
  std::uint64_t value = 0;
  if (::getrandom(&value, sizeof(value), 0) != sizeof(value)) give_up("no random numbers");
  return value;
}

class Options {
 public:
  void read(std::string_view word, std::string_view prefix) {
    if (!word.starts_with(prefix)) return;
    word.remove_prefix(prefix.size());
    const auto equals = word.find('=');
    if (equals == std::string_view::npos) return;
    values_[std::string(word.substr(0, equals))] = word.substr(equals + 1);
  }

  std::string text(const std::string& key) const {
    const auto found = values_.find(key);
    return found == values_.end() ? "" : found->second;
  }

  std::uint64_t number(const std::string& key, std::uint64_t fallback) const {
    const std::string value = text(key);
    return value.empty() ? fallback : std::strtoull(value.c_str(), nullptr, 10);
  }

 private:
  std::map<std::string, std::string> values_;
};

constexpr const char* kQuiescedFile = "/run/quiesced";

// Whoever may ask us to stop, for good or for a while: signals, and the power button.
class StopRequest {
 public:
  StopRequest() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    sources_.push_back({.fd = ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK),
                        .events = POLLIN,
                        .revents = 0});
    if (::getpid() != 1) return;
    for (int i = 0; i < 16; ++i) {
      const std::string path = "/dev/input/event" + std::to_string(i);
      const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
      if (fd >= 0) sources_.push_back({.fd = fd, .events = POLLIN, .revents = 0});
    }
  }

  // Waits until `until` at most, or, while the guest is quiesced, until it is released.
  bool arrived(Clock::time_point until, std::uint64_t newest = 0) {
    while (!stop_) {
      const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
      const int ready = ::poll(sources_.data(), sources_.size(),
                               static_cast<int>(std::clamp<long>(left, 0, 60'000)));
      if (ready <= 0 && is_quiesced_) {
        until = Clock::now() + milliseconds(100);
        continue;
      }
      if (ready <= 0) return false;
      read_signals(newest);
      for (std::size_t i = 1; i < sources_.size(); ++i) read_keys(sources_[i].fd);
    }
    return true;
  }

 private:
  void read_signals(std::uint64_t newest) {
    signalfd_siginfo signal{};
    while (::read(sources_[0].fd, &signal, sizeof(signal)) == sizeof(signal)) {
      if (signal.ssi_signo == SIGUSR1) {
        is_quiesced_ = true;
        say("quiesced seq=" + std::to_string(newest));
        std::ofstream(kQuiescedFile).close();
      } else if (signal.ssi_signo == SIGUSR2) {
        is_quiesced_ = false;
        ::unlink(kQuiescedFile);
      } else {
        stop_ = true;
      }
    }
  }

  void read_keys(int fd) {
    input_event event{};
    while (::read(fd, &event, sizeof(event)) == sizeof(event)) {
      if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) stop_ = true;
    }
  }

  std::vector<pollfd> sources_;
  bool is_quiesced_ = false;
  bool stop_ = false;
};

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};

class Disk {
 public:
  explicit Disk(std::string path) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd_ < 0 && errno == EINVAL) fd_ = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ < 0) give_up("cannot open " + path_ + ": " + std::strerror(errno));
    const off_t end = ::lseek(fd_, 0, SEEK_END);
    bytes_ = end < 0 ? 0 : static_cast<std::uint64_t>(end);
    buffer_.reset(static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, kChunkBytes)));
    if (!buffer_) give_up("no memory");
  }

  std::uint64_t bytes() const { return bytes_; }

  // The blocks at `offset`, valid until the next call.
  std::span<const std::byte> read(std::uint64_t offset, std::size_t length) {
    const ssize_t got = ::pread(fd_, buffer_.get(), length, static_cast<off_t>(offset));
    if (got != static_cast<ssize_t>(length)) give_up("cannot read " + path_);
    return {buffer_.get(), length};
  }

  void write(std::uint64_t offset, std::span<const std::byte> bytes) {
    std::memcpy(buffer_.get(), bytes.data(), bytes.size());
    const ssize_t put = ::pwrite(fd_, buffer_.get(), bytes.size(), static_cast<off_t>(offset));
    if (put != static_cast<ssize_t>(bytes.size())) {
      give_up("cannot write " + path_ + ": " + std::strerror(errno));
    }
  }

  void flush() {
    if (::fdatasync(fd_) != 0) give_up("cannot flush " + path_ + ": " + std::strerror(errno));
  }

 private:
  static constexpr std::size_t kChunkBytes = kChunkBlocks * kBlockBytes;

  std::string path_;
  int fd_ = -1;
  std::uint64_t bytes_ = 0;
  std::unique_ptr<std::byte, FreeDeleter> buffer_;
};

std::vector<std::string> disks_of_this_machine(std::uint64_t wanted) {
  const auto deadline = Clock::now() + std::chrono::seconds(60);
  for (;;) {
    std::vector<std::string> found;
    if (DIR* folder = ::opendir("/sys/block"); folder != nullptr) {
      while (const dirent* entry = ::readdir(folder)) {
        const std::string name = entry->d_name;
        if (name.starts_with("vd") && name.size() == 3) found.push_back("/dev/" + name);
      }
      ::closedir(folder);
    }
    std::ranges::sort(found);
    if (!found.empty() && (wanted == 0 || found.size() >= wanted)) return found;
    if (Clock::now() > deadline) give_up("disks did not appear");
    ::poll(nullptr, 0, 50);
  }
}

// Brings new disks into their initial state, or finds out where the history on them ends.
class History {
 public:
  History(std::vector<Disk>& disks, const Options& options, StopRequest& stop)
      : disks_(disks), stop_(stop), boot_(random_number()) {
    const std::string run_id = options.text("run_id");
    header_ = Header{.run = run_id.empty() ? random_number() : run_from_text(run_id),
                     .disks = static_cast<std::uint32_t>(disks.size()),
                     .slots = static_cast<std::uint32_t>(options.number("slots", 4096)),
                     .fill_mib = static_cast<std::uint32_t>(options.number("fill_mib", 0)),
                     .zero_mib = static_cast<std::uint32_t>(options.number("zero_mib", 0))};

    const auto last = read_header(disks.size() - 1);
    if (!last) {
      prepare();
      return;
    }
    if (!run_id.empty() && last->run != header_.run) give_up("disks belong to another run");
    header_ = *last;
    for (std::uint32_t i = 0; i < disks.size(); ++i) {
      Header wanted = header_;
      wanted.disk = i;
      wanted.disks = static_cast<std::uint32_t>(disks.size());
      if (read_header(i) != wanted) give_up("header of disk " + std::to_string(i) + " is wrong");
    }
    resume();
  }

  std::uint64_t newest() const { return newest_; }

  // Returns once the record is on stable storage.
  void append() {
    Block block;
    const Record record{.run = header_.run,
                        .seq = newest_ + 1,
                        .boot = boot_,
                        .disk = disk_of(header_, newest_ + 1),
                        .previous = digest_};
    encode(record, block);
    Disk& disk = disks_[record.disk];
    disk.write(offset_of(header_, record.seq), block);
    disk.flush();
    newest_ = record.seq;
    digest_ = digest_of(block);
  }

 private:
  std::optional<Header> read_header(std::size_t disk) {
    return decode_header(disks_[disk].read(0, kBlockBytes).first<kBlockBytes>());
  }

  void prepare() {
    Block probe;
    for (std::uint32_t i = 0; i < disks_.size(); ++i) {
      header_.disk = i;
      encode(header_, probe);
      if (!decode_header(probe)) give_up("bad options: slots must be a power of two");
      if (disks_[i].bytes() < header_.end()) {
        give_up("disk " + std::to_string(i) + " is too small: need " +
                std::to_string(header_.end()) + " bytes");
      }
    }
    for (std::uint32_t i = 0; i < disks_.size(); ++i) fill(i);
    for (std::uint32_t i = 0; i < disks_.size(); ++i) {
      header_.disk = i;
      encode(header_, probe);
      disks_[i].write(0, probe);
      disks_[i].flush();
    }
    say("prepared disks=" + std::to_string(disks_.size()));
  }

  void fill(std::uint32_t index) {
    std::vector<Block> chunk(kChunkBlocks);
    const std::span<const std::byte> bytes(chunk.data()->data(), kChunkBlocks * kBlockBytes);
    for (std::uint32_t mib = 0; mib < header_.fill_mib; ++mib) {
      for (std::size_t i = 0; i < chunk.size(); ++i) {
        encode_fill(header_.run, index, mib * kChunkBlocks + i, chunk[i]);
      }
      disks_[index].write(header_.fill_offset() + (std::uint64_t{mib} << 20U), bytes);
      if (stop_.arrived(Clock::now())) leave(0);
    }
    for (Block& block : chunk) block.fill(std::byte{0});
    for (std::uint32_t mib = 0; mib < header_.zero_mib; ++mib) {
      disks_[index].write(header_.zero_offset() + (std::uint64_t{mib} << 20U), bytes);
      if (stop_.arrived(Clock::now())) leave(0);
    }
  }

  void resume() {
    for (std::uint32_t disk = 0; disk < disks_.size(); ++disk) {
      for (std::uint64_t slot = 0; slot < header_.slots; slot += kChunkBlocks) {
        const std::size_t blocks = std::min<std::size_t>(kChunkBlocks, header_.slots - slot);
        const auto bytes =
            disks_[disk].read(kRecordsOffset + slot * kBlockBytes, blocks * kBlockBytes);
        for (std::size_t i = 0; i < blocks; ++i) {
          const auto block = bytes.subspan(i * kBlockBytes).first<kBlockBytes>();
          const auto record = is_zero(block) ? std::nullopt : decode_record(block);
          if (!record || record->run != header_.run || record->seq <= newest_) continue;
          newest_ = record->seq;
          digest_ = digest_of(block);
        }
      }
    }
    say("resumed seq=" + std::to_string(newest_));
  }

  std::vector<Disk>& disks_;
  StopRequest& stop_;
  std::uint64_t boot_;
  Header header_;
  std::uint64_t newest_ = 0;
  std::uint32_t digest_ = 0;
};

int run(int argc, char** argv) {
  Options options;
  std::vector<std::string> paths;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with("--")) {
      options.read(word, "--");
    } else {
      paths.emplace_back(word);
    }
  }
  if (::getpid() == 1) {
    std::ifstream file("/proc/cmdline");
    for (std::string word; file >> word;) options.read(word, "witness.");
  }
  if (paths.empty()) paths = disks_of_this_machine(options.number("disks", 0));
  if (paths.size() > kDisksMax) give_up("too many disks");

  StopRequest stop;
  std::vector<Disk> disks;
  for (const std::string& path : paths) disks.emplace_back(path);
  History history(disks, options, stop);

  const milliseconds pace(options.number("pace_ms", 20));
  const milliseconds report(options.number("report_ms", 200));
  const std::uint64_t count = options.number("count", 0);
  auto next_report = Clock::now();
  for (std::uint64_t written = 0; count == 0 || written < count; ++written) {
    if (stop.arrived(Clock::now() + pace, history.newest())) break;
    history.append();
    if (Clock::now() < next_report) continue;
    say("alive seq=" + std::to_string(history.newest()));
    say("acknowledged seq=" + std::to_string(history.newest()));
    next_report = Clock::now() + report;
  }

  for (Disk& disk : disks) disk.flush();
  say("final seq=" + std::to_string(history.newest()));
  return 0;
}

}  // namespace
}  // namespace farside::guest

int main(int argc, char** argv) {
  farside::guest::leave(farside::guest::run(argc, argv));
}
