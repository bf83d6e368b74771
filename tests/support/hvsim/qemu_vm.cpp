#include "tests/support/hvsim/qemu_vm.h"

#include <fmt/format.h>
#include <libnbd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>

namespace farside::hvsim {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kCommandTime{30'000};
constexpr milliseconds kMergeTime{300'000};
constexpr milliseconds kAgentTime{5'000};
constexpr int kPingsMax = 50;
constexpr std::uint64_t kBitmapBytes = 65'536;  // What one bit stands for.
constexpr std::uint64_t kAskedBytes = 1U << 30U;

std::string base_of(std::size_t drive) {
  return fmt::format("b{}", drive);
}
std::string overlay_of(std::size_t drive) {
  return fmt::format("o{}", drive);
}
std::string bitmap_named(int number) {
  return fmt::format("w{}", number);
}

Json overlay_options(std::size_t drive, const std::string& path) {
  return {{"driver", "qcow2"},
          {"node-name", overlay_of(drive)},
          {"file", {{"driver", "file"}, {"filename", path}}}};
}

void add_drives(std::vector<std::string>& words, const std::vector<Drive>& drives) {
  for (std::size_t i = 0; i < drives.size(); ++i) {
    Json base = drives[i].base;
    base["node-name"] = base_of(i);
    words.insert(words.end(), {"-blockdev", base.dump()});
    std::string top = base_of(i);
    if (!drives[i].overlay.empty()) {
      Json overlay = overlay_options(i, drives[i].overlay);
      overlay["backing"] = base_of(i);
      words.insert(words.end(), {"-blockdev", overlay.dump()});
      top = overlay_of(i);
    }
    words.insert(words.end(), {"-device", fmt::format("virtio-blk-pci,drive={},id=vd{}", top, i)});
  }
}

std::vector<std::string> words_of(const MachineSpec& spec, int monitor, int agent) {
  std::vector<std::string> words{"qemu-system-x86_64",
                                 "-machine",
                                 "q35",
                                 "-accel",
                                 "tcg,thread=multi,tb-size=32",
                                 "-cpu",
                                 "max",
                                 "-m",
                                 std::to_string(spec.memory_mib),
                                 "-smp",
                                 std::to_string(spec.processors),
                                 "-nodefaults",
                                 "-no-user-config",
                                 "-display",
                                 "none",
                                 "-S",
                                 "-no-shutdown",
                                 "-chardev",
                                 fmt::format("socket,id=monitor,fd={}", monitor),
                                 "-mon",
                                 "chardev=monitor,mode=control",
                                 "-chardev",
                                 fmt::format("file,id=serial,path={},append=on", spec.serial_log),
                                 "-serial",
                                 "chardev:serial"};
  if (!spec.kernel.empty()) {
    words.insert(words.end(),
                 {"-kernel", spec.kernel, "-initrd", spec.initrd, "-append", spec.arguments});
  }
  add_drives(words, spec.drives);
  for (std::size_t i = 0; i < spec.macs.size(); ++i) {
    words.insert(words.end(),
                 {"-netdev", fmt::format("hubport,id=net{},hubid={}", i, i), "-device",
                  fmt::format("virtio-net-pci,netdev=net{},mac={},romfile=", i, spec.macs[i])});
  }
  words.insert(words.end(), {"-device", "virtio-serial-pci", "-chardev",
                             fmt::format("socket,id=agent,fd={}", agent), "-device",
                             "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"});
  return words;
}

struct CloseNbd {
  void operator()(nbd_handle* handle) const { nbd_close(handle); }
};

struct BitmapReading {
  std::string context;
  Ranges dirty;
};

int on_extents(void* user, const char* context, std::uint64_t offset, std::uint32_t* entries,
               std::size_t count, int* /*error*/) {
  auto& reading = *static_cast<BitmapReading*>(user);
  if (reading.context != context) return 0;
  for (std::size_t i = 0; i + 1 < count; i += 2) {
    if ((entries[i + 1] & 1U) != 0) reading.dirty.push_back({offset, offset + entries[i]});
    offset += entries[i];
  }
  return 0;
}

std::unexpected<Error> nbd_error(const std::string& doing) {
  return fail(ErrorCode::kPlatform, doing + ": " + nbd_get_error());
}

Result<Ranges> dirty_of(const std::string& socket, const std::string& name,
                        const std::string& bitmap) {
  const std::unique_ptr<nbd_handle, CloseNbd> nbd(nbd_create());
  BitmapReading reading{.context = "qemu:dirty-bitmap:" + bitmap, .dirty = {}};
  if (!nbd || nbd_set_export_name(nbd.get(), name.c_str()) != 0 ||
      nbd_add_meta_context(nbd.get(), reading.context.c_str()) != 0 ||
      nbd_connect_unix(nbd.get(), socket.c_str()) != 0) {
    return nbd_error("read a bitmap");
  }
  if (nbd_can_meta_context(nbd.get(), reading.context.c_str()) != 1) {
    return fail(ErrorCode::kPlatform, "QEMU does not offer " + reading.context);
  }
  const std::int64_t bytes = nbd_get_size(nbd.get());
  if (bytes < 0) return nbd_error("read a bitmap");
  const nbd_extent_callback callback{.callback = on_extents, .user_data = &reading, .free = {}};
  for (std::uint64_t at = 0; at < static_cast<std::uint64_t>(bytes);) {
    const std::uint64_t count = std::min(kAskedBytes, static_cast<std::uint64_t>(bytes) - at);
    if (nbd_block_status(nbd.get(), count, at, callback, 0) != 0) return nbd_error("read a bitmap");
    at += count;
  }
  nbd_shutdown(nbd.get(), 0);
  return clip(unite(reading.dirty, {}), {0, static_cast<std::uint64_t>(bytes)});
}

Json bitmap_action(const char* type, std::size_t drive, int number) {
  Json data{{"node", base_of(drive)}, {"name", bitmap_named(number)}};
  if (type == std::string_view("block-dirty-bitmap-add")) data["granularity"] = kBitmapBytes;
  return {{"type", type}, {"data", data}};
}

}  // namespace

QemuVm::QemuVm(std::unique_ptr<Child> process, int monitor, int agent, std::string stem,
               std::vector<Drive> drives)
    : process_(std::move(process)),
      monitor_(monitor),
      agent_(agent),
      stem_(std::move(stem)),
      drives_(std::move(drives)) {}

QemuVm::~QemuVm() {
  if (ask("quit")) std::ignore = process_->wait(kCommandTime);
  process_->kill();
  ::unlink((stem_ + ".sock").c_str());
}

Result<std::unique_ptr<QemuVm>> QemuVm::start(Spawner& spawner, const MachineSpec& spec,
                                              const std::string& stem) {
  std::array<int, 2> monitor{};
  std::array<int, 2> agent{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, monitor.data()) != 0 ||
      ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent.data()) != 0) {
    return fail(ErrorCode::kUnavailable, "no more sockets");
  }
  const std::string log = stem + ".log";
  auto child = spawner.spawn(words_of(spec, monitor[1], agent[1]), {monitor[1], agent[1]}, log);
  ::close(monitor[1]);
  ::close(agent[1]);
  if (!child) {
    ::close(monitor[0]);
    ::close(agent[0]);
    return fail(child.error());
  }
  std::unique_ptr<QemuVm> vm(
      new QemuVm(std::move(*child), monitor[0], agent[0], stem, spec.drives));
  const auto greeting = vm->monitor_.next(kCommandTime);
  if (!greeting || !vm->ask("qmp_capabilities")) {
    std::ifstream in(log);
    return fail(ErrorCode::kPlatform,
                "QEMU does not start: " + std::string{std::istreambuf_iterator<char>(in), {}});
  }
  for (std::size_t i = 0; i < spec.drives.size(); ++i) {
    FARSIDE_TRY(vm->ask("block-dirty-bitmap-add",
                        bitmap_action("block-dirty-bitmap-add", i, vm->bitmap_)["data"]));
  }
  ::unlink((stem + ".sock").c_str());
  FARSIDE_TRY(vm->ask("nbd-server-start",
                      {{"addr", {{"type", "unix"}, {"data", {{"path", stem + ".sock"}}}}}}));
  return vm;
}

Result<Json> QemuVm::ask(const std::string& command, const Json& arguments) {
  return monitor_.ask(command, arguments, kCommandTime);
}

Status QemuVm::run() {
  FARSIDE_TRY(ask("cont"));
  return {};
}

Status QemuVm::stand_still() {
  FARSIDE_TRY(ask("stop"));
  return {};
}

Status QemuVm::reset() {
  FARSIDE_TRY(ask("system_reset"));
  agent_answered_ = false;
  pings_ = 0;
  return {};
}

Status QemuVm::press_power_button() {
  FARSIDE_TRY(ask("system_powerdown"));
  return {};
}

QemuVm::Event QemuVm::poll() {
  for (;;) {
    const auto event = monitor_.take_event();
    if (!event) return Event::kDied;
    if (event->is_null()) return Event::kNone;
    const std::string name = event->value("event", "");
    if (name == "SHUTDOWN") return Event::kPoweredOff;
    if (name == "RESET") agent_answered_ = false;
    if (name == "RESET") pings_ = 0;
  }
}

bool QemuVm::has_agent() {
  if (agent_answered_) return true;
  // Answers to questions of before it was there come all at once; each is as good as the other.
  const auto answer = agent_.next(milliseconds{0});
  if (!answer) {
    // They wait in the socket until the agent comes; more than a few would fill it.
    if (pings_ < kPingsMax) std::ignore = agent_.say({{"execute", "guest-ping"}, {"id", 0}});
    ++pings_;
    return false;
  }
  while (agent_.next(milliseconds{20})) {
  }
  agent_answered_ = true;
  return true;
}

Status QemuVm::freeze_guest() {
  FARSIDE_TRY(agent_.ask("guest-fsfreeze-freeze", Json::object(), kAgentTime));
  return {};
}

Status QemuVm::thaw_guest() {
  FARSIDE_TRY(agent_.ask("guest-fsfreeze-thaw", Json::object(), kAgentTime));
  return {};
}

Status QemuVm::run_in_guest(const std::string& path, const std::vector<std::string>& words) {
  FARSIDE_TRY(agent_.ask("guest-exec", {{"path", path}, {"arg", words}}, kAgentTime));
  return {};
}

Result<Ranges> QemuVm::read_bitmap(std::size_t drive, const std::string& name) {
  const std::string id = fmt::format("e{}", ++export_);
  FARSIDE_TRY(ask("block-export-add", {{"id", id},
                                       {"type", "nbd"},
                                       {"node-name", base_of(drive)},
                                       {"name", id},
                                       {"bitmaps", {name}}}));
  auto dirty = dirty_of(stem_ + ".sock", id, name);
  FARSIDE_TRY(ask("block-export-del", {{"id", id}, {"mode", "hard"}}));
  FARSIDE_TRY(monitor_.wait_for(kCommandTime, [&](const Json& event) {
    return event["event"] == "BLOCK_EXPORT_DELETED" && event["data"].value("id", "") == id;
  }));
  return dirty;
}

Result<std::vector<Ranges>> QemuVm::rotate(Json more_actions,
                                           const std::vector<std::string>& overlays) {
  Json actions = Json::array();
  for (std::size_t i = 0; i < drives_.size(); ++i) {
    actions.push_back(bitmap_action("block-dirty-bitmap-add", i, bitmap_ + 1));
    actions.push_back(bitmap_action("block-dirty-bitmap-disable", i, bitmap_));
  }
  for (Json& one : more_actions) actions.push_back(std::move(one));
  FARSIDE_TRY(ask("transaction", {{"actions", actions}}));
  const int ended = bitmap_++;
  for (std::size_t i = 0; i < overlays.size(); ++i) drives_[i].overlay = overlays[i];
  std::vector<Ranges> changes;
  for (std::size_t i = 0; i < drives_.size(); ++i) {
    FARSIDE_ASSIGN(Ranges dirty, read_bitmap(i, bitmap_named(ended)));
    changes.push_back(std::move(dirty));
    FARSIDE_TRY(
        ask("block-dirty-bitmap-remove", {{"node", base_of(i)}, {"name", bitmap_named(ended)}}));
  }
  return changes;
}

Result<std::vector<Ranges>> QemuVm::take_changes() {
  if (drives_.empty()) return std::vector<Ranges>{};
  return rotate(Json::array(), {});
}

Result<std::vector<Ranges>> QemuVm::take_changes_and_freeze(
    const std::vector<std::string>& overlays) {
  if (drives_.empty()) return std::vector<Ranges>{};
  Json actions = Json::array();
  for (std::size_t i = 0; i < drives_.size(); ++i) {
    Json options = overlay_options(i, overlays[i]);
    options["backing"] = nullptr;
    FARSIDE_TRY(ask("blockdev-add", options));
    actions.push_back({{"type", "blockdev-snapshot"},
                       {"data", {{"node", base_of(i)}, {"overlay", overlay_of(i)}}}});
  }
  return rotate(std::move(actions), overlays);
}

bool QemuVm::is_frozen() const {
  return std::ranges::any_of(drives_, [](const Drive& one) { return !one.overlay.empty(); });
}

Status QemuVm::merge(const std::function<Status()>& on_merged) {
  std::vector<std::size_t> frozen;
  for (std::size_t i = 0; i < drives_.size(); ++i) {
    if (!drives_[i].overlay.empty()) frozen.push_back(i);
  }
  const auto wait_for_job = [&](const char* name, std::size_t drive) {
    return monitor_.wait_for(kMergeTime, [&](const Json& event) {
      return event["event"] == name &&
             event["data"].value("device", "") == fmt::format("m{}", drive);
    });
  };
  for (const std::size_t i : frozen) {
    FARSIDE_TRY(ask(
        "block-commit",
        {{"job-id", fmt::format("m{}", i)}, {"device", overlay_of(i)}, {"base-node", base_of(i)}}));
  }
  for (const std::size_t i : frozen) FARSIDE_TRY(wait_for_job("BLOCK_JOB_READY", i));
  FARSIDE_ASSIGN(const Json status, ask("query-status"));
  FARSIDE_TRY(ask("stop"));
  for (const std::size_t i : frozen) {
    FARSIDE_TRY(ask("job-complete", {{"id", fmt::format("m{}", i)}}));
    FARSIDE_ASSIGN(const Json ended, wait_for_job("BLOCK_JOB_COMPLETED", i));
    if (ended["data"].contains("error")) {
      return fail(ErrorCode::kPlatform, "merge: " + ended["data"]["error"].get<std::string>());
    }
    FARSIDE_TRY(ask("blockdev-del", {{"node-name", overlay_of(i)}}));
    drives_[i].overlay.clear();
  }
  const Status noted = on_merged();
  if (status.value("running", false)) FARSIDE_TRY(ask("cont"));
  return noted;
}

}  // namespace farside::hvsim
