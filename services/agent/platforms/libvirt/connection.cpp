#include "services/agent/platforms/libvirt/connection.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <libvirt/virterror.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "common/base/folder.h"
#include "common/base/log.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/half_begun.h"
#include "services/agent/platforms/libvirt/qemu_folder.h"

namespace farside::agent::libvirt {
namespace {

// No helper daemons, no control groups, no labels: the embedded driver must work on a host (or in a
// container) that has nothing but QEMU.
constexpr const char* kEmbeddedConfig = R"(stdio_handler = "file"
security_driver = "none"
remember_owner = 0
namespaces = []
cgroup_controllers = []
)";
// Root's QEMU is not root: what a guest's disks and devices are made of is given to it at its
// start, and back to root at its end.
constexpr const char* kRootConfig = R"(user = "libvirt-qemu"
group = "libvirt-qemu"
dynamic_ownership = 1
)";
constexpr const char* kOwnConfig = "dynamic_ownership = 0\n";

// What lies below is QEMU's own, made and given to it by libvirt, which leaves these as the umask
// has them.
constexpr std::array kPassages = {"", "/lib", "/run", "/run/qemu", "/cache"};

Status write_config(const std::string& root, const std::string& own_folder) {
  std::error_code error;
  std::filesystem::create_directories(root + "/etc", error);
  std::filesystem::create_directories(root + "/log", error);
  if (error) {
    return fail(ErrorCode::kIo, fmt::format("create {}/etc: {}", root, error.message()));
  }
  for (const char* passage : kPassages) {
    const int levels = *passage == '\0' ? levels_within(root, own_folder) : 1;
    FARSIDE_TRY(make_qemu_folder(root + passage, embedded_qemu_user(), levels));
  }
  const std::string path = root + "/etc/qemu.conf";
  std::string wanted = kEmbeddedConfig;
  wanted += ::geteuid() == 0 ? kRootConfig : kOwnConfig;
  std::ifstream file(path);
  std::stringstream found;
  found << file.rdbuf();
  if (found.str() == wanted) return {};
  std::ofstream out(path, std::ios::trunc);
  out << wanted;
  out.flush();
  if (!out) return fail(ErrorCode::kIo, fmt::format("write {}", path));
  return {};
}

// libvirt's own last error of a thread is gone with the next call, even one that succeeds, such as
// asking for the name of the domain that the error is about.
struct Failure {
  int number = 0;
  int domain = 0;
  std::string message;
};
thread_local Failure last_failure;
thread_local std::string error_uri;

void remember(void*, virErrorPtr error) {
  last_failure = {.number = error->code,
                  .domain = error->domain,
                  .message = error->message == nullptr ? "" : error->message};
}

// The loop lives as long as the process: libvirt has no way to stop using it.
void start_event_loop() {
  static std::once_flag once;
  std::call_once(once, [] {
    // libvirt writes to daemons that are gone, and leaves the signal to the program.
    struct sigaction now{};
    if (::sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) {
      ::signal(SIGPIPE, SIG_IGN);
    }
    // By default libvirt prints every error; ours are returned.
    virSetErrorFunc(nullptr, remember);
    virEventRegisterDefaultImpl();
    std::thread([] {
      while (virEventRunDefaultImpl() == 0) {
      }
    }).detach();
  });
}

constexpr std::chrono::seconds kReconnectMax(10);

void await_guests(virConnectPtr connection, const Deadline& deadline) {
  virDomainPtr* domains = nullptr;
  const int count = virConnectListAllDomains(connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
  for (int i = 0; i < count; ++i) {
    const DomainHandle domain(domains[i]);
    virDomainJobInfo job;
    while (!deadline.passed() && virDomainGetJobInfo(domain.get(), &job) != 0 &&
           virDomainIsActive(domain.get()) == 1) {
      std::ignore = deadline.pause();
    }
  }
  std::free(domains);
}

// A driver that has just started reconnects to running guests in the background, and refuses calls
// on each of them until it has.  A guest whose QEMU does not answer must hold up nobody: each call
// about it takes half a minute.
void wait_until_reconnected(virConnectPtr connection) {
  std::promise<void> promise;
  const auto done = promise.get_future();
  virConnectRef(connection);
  std::thread([connection, promise = std::move(promise)]() mutable {
    const ConnectionHandle mine(connection);
    await_guests(mine.get(), Deadline(kReconnectMax));
    promise.set_value();
  }).detach();
  if (done.wait_for(kReconnectMax) != std::future_status::ready) {
    log::warn("guests_not_reconnected", {{"cause", "their QEMU does not answer"}});
  }
}

// Connections of this process to local daemons of libvirt: inode -> descriptor.
std::map<std::uint64_t, int> client_sockets() {
  std::map<std::uint64_t, int> found;
  std::error_code error;
  for (const auto& entry : entries_of("/proc/self/fd", error)) {
    const int fd = std::atoi(entry.filename().c_str());
    sockaddr_un peer{};
    socklen_t size = sizeof(peer);
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) continue;
    if (peer.sun_family != AF_UNIX || size <= offsetof(sockaddr_un, sun_path)) continue;
    const std::string_view path(peer.sun_path, ::strnlen(peer.sun_path, sizeof(peer.sun_path)));
    if (!path.ends_with("libvirt-sock") && !path.ends_with("virtqemud-sock")) continue;
    struct stat state{};
    if (::fstat(fd, &state) == 0) found[state.st_ino] = fd;
  }
  return found;
}

ErrorCode code_of(int number) {
  switch (number) {
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_NO_NETWORK:
      return ErrorCode::kNotFound;
    case VIR_ERR_DOM_EXIST:
      return ErrorCode::kAlreadyExists;
    case VIR_ERR_NO_DOMAIN_CHECKPOINT:
    case VIR_ERR_CHECKPOINT_INCONSISTENT:
      return ErrorCode::kTrackingLost;
    case VIR_ERR_OPERATION_TIMEOUT:
      return ErrorCode::kTimeout;
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_INVALID_CONN:
    case VIR_ERR_AGENT_UNRESPONSIVE:
      return ErrorCode::kUnavailable;
    case VIR_ERR_INVALID_ARG:
    case VIR_ERR_XML_ERROR:
    case VIR_ERR_XML_DETAIL:
      return ErrorCode::kInvalidArgument;
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_ARGUMENT_UNSUPPORTED:
    case VIR_ERR_NO_SUPPORT:
      return ErrorCode::kUnsupported;
    default:
      return ErrorCode::kPlatform;
  }
}

}  // namespace

Result<ConnectionHandle> open_connection(const ConnectionTarget& target) {
  if (target.uri.empty() == target.root.empty()) {
    return fail(ErrorCode::kInvalidArgument, "libvirt: give either a URI or a root directory");
  }
  std::string uri = target.uri;
  if (!target.root.empty()) {
    FARSIDE_TRY(write_config(target.root, target.own_folder));
    if (const auto user = embedded_qemu_user()) FARSIDE_TRY(check_entry(target.root, *user));
    forget_half_begun(target.root);
    // The driver logs to standard error otherwise.
    const std::string log = fmt::format("3:file:{}/log/libvirt.log", target.root);
    ::setenv("LIBVIRT_LOG_OUTPUTS", log.c_str(), /*overwrite=*/0);
    uri = "qemu:///embed?root=" + target.root;
  }
  start_event_loop();
  ConnectionHandle connection(virConnectOpen(uri.c_str()));
  if (!connection) {
    Error error{
        .code = ErrorCode::kUnavailable,
        .what = fmt::format("open {}: {}", uri, last_failure.message),
        .advice = "check that QEMU and libvirt's QEMU driver are installed and may be used"};
    if (error.what.contains("libvirt-qemu")) {
      // Debian creates this user with libvirt-daemon-system, which a host without the daemon lacks.
      error.advice =
          "run: adduser --system --group --no-create-home --home /nonexistent libvirt-qemu, and "
          "adduser libvirt-qemu kvm";
    } else if (error.what.contains("driver.pid")) {
      error.advice = "another process, perhaps the agent, has this root open: stop it first";
    }
    return fail(std::move(error));
  }
  if (!target.root.empty()) wait_until_reconnected(connection.get());
  return connection;
}

ClientSocket::~ClientSocket() {
  if (fd_ >= 0) ::close(fd_);
}

void ClientSocket::shut_down() const {
  if (fd_ >= 0) ::shutdown(fd_, SHUT_RDWR);
}

std::future<Result<Opened>> open_in_background(ConnectionTarget target) {
  std::promise<Result<Opened>> promise;
  auto future = promise.get_future();
  // It cannot be joined: nothing ends a virConnectOpen() that a frozen daemon does not answer.
  std::thread([target = std::move(target), promise = std::move(promise)]() mutable {
    // One after the other, so that it is known whose socket is whose.
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    const auto before = client_sockets();
    auto connection = open_connection(target);
    if (!connection) {
      promise.set_value(fail(std::move(connection).error()));
      return;
    }
    Opened opened{.connection = std::move(*connection), .socket = {}};
    for (const auto& [inode, fd] : client_sockets()) {
      // A descriptor of our own: libvirt closes its one when it likes.
      if (!before.contains(inode)) opened.socket = ClientSocket(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    }
    promise.set_value(std::move(opened));
  }).detach();
  return future;
}

std::unexpected<Error> libvirt_error(const std::string& doing) {
  const auto& [number, domain, message] = last_failure;
  ErrorCode code = code_of(number);
  std::string advice;
  // What the client's side of the protocol reports, whatever number it has, is about the
  // connection.
  if (domain == VIR_FROM_RPC || domain == VIR_FROM_REMOTE || number == VIR_ERR_INVALID_CONN) {
    return fail(ErrorCode::kUnavailable,
                fmt::format("{}: libvirt at {} does not answer: {}", doing, error_uri, message),
                "check its daemon; the agent goes on by itself as soon as it answers");
  }
  if (message.contains("cannot acquire state change lock")) {
    code = ErrorCode::kBusy;
    advice = "libvirt names who holds the VM; it goes on by itself when they are done";
  }
  return fail(code, fmt::format("{}: {}", doing, message), advice);
}

void set_error_uri(const std::string& uri) {
  error_uri = uri;
}

int libvirt_error_number() {
  return last_failure.number;
}

std::string take_text(char* text) {
  std::string copy = text == nullptr ? "" : text;
  std::free(text);
  return copy;
}

}  // namespace farside::agent::libvirt
