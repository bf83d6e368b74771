#include "services/agent/platforms/libvirt/connection.h"

#include <fmt/core.h>
#include <libvirt/virterror.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <system_error>
#include <thread>
#include <utility>

#include "services/agent/platforms/deadline.h"

namespace farside::agent::libvirt {
namespace {

// No helper daemons, no control groups, no labels, no change of owners: the embedded driver must
// work on a host (or in a container) that has nothing but QEMU.
constexpr const char* kEmbeddedConfig = R"(stdio_handler = "file"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
)";
constexpr const char* kRootConfig = R"(user = "root"
group = "root"
)";

Status write_config(const std::string& root) {
  std::error_code error;
  std::filesystem::create_directories(root + "/etc", error);
  std::filesystem::create_directories(root + "/log", error);
  if (error) {
    return fail(ErrorCode::kIo, fmt::format("create {}/etc: {}", root, error.message()));
  }
  const std::string path = root + "/etc/qemu.conf";
  std::string wanted = kEmbeddedConfig;
  if (::geteuid() == 0) wanted += kRootConfig;
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

void remember(void*, virErrorPtr error) {
  last_failure = {.number = error->code,
                  .domain = error->domain,
                  .message = error->message == nullptr ? "" : error->message};
}

// The loop lives as long as the process: libvirt has no way to stop using it.
void start_event_loop() {
  static std::once_flag once;
  std::call_once(once, [] {
    // By default libvirt prints every error; ours are returned.
    virSetErrorFunc(nullptr, remember);
    virEventRegisterDefaultImpl();
    std::thread([] {
      while (virEventRunDefaultImpl() == 0) {
      }
    }).detach();
  });
}

// A driver that has just started reconnects to running guests in the background, and refuses calls
// on each of them until it has.
void wait_until_reconnected(virConnectPtr connection) {
  virDomainPtr* domains = nullptr;
  const int count = virConnectListAllDomains(connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
  const Deadline deadline(std::chrono::seconds(10));
  for (int i = 0; i < count; ++i) {
    const DomainHandle domain(domains[i]);
    virDomainJobInfo job;
    while (virDomainGetJobInfo(domain.get(), &job) != 0 && virDomainIsActive(domain.get()) == 1) {
      if (!deadline.pause()) break;
    }
  }
  std::free(domains);
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
    FARSIDE_TRY(write_config(target.root));
    // The driver logs to standard error otherwise.
    const std::string log = fmt::format("3:file:{}/log/libvirt.log", target.root);
    ::setenv("LIBVIRT_LOG_OUTPUTS", log.c_str(), /*overwrite=*/0);
    uri = "qemu:///embed?root=" + target.root;
  }
  start_event_loop();
  ConnectionHandle connection(virConnectOpen(uri.c_str()));
  if (!connection) {
    Error error = libvirt_error("open " + uri).error();
    error.code = ErrorCode::kUnavailable;
    error.advice = "check that QEMU and libvirt's QEMU driver are installed and may be used";
    if (error.what.contains("libvirt-qemu")) {
      // Debian creates this user with libvirt-daemon-system, which a host without the daemon lacks.
      error.advice =
          "run: adduser --system --group --no-create-home --home /nonexistent libvirt-qemu";
    } else if (error.what.contains("driver.pid")) {
      error.advice = "another process, perhaps the agent, has this root open: stop it first";
    }
    return fail(std::move(error));
  }
  if (!target.root.empty()) wait_until_reconnected(connection.get());
  return connection;
}

std::future<Result<ConnectionHandle>> open_in_background(ConnectionTarget target) {
  std::promise<Result<ConnectionHandle>> promise;
  auto future = promise.get_future();
  // It cannot be joined: nothing ends a virConnectOpen() that a frozen daemon does not answer.
  std::thread([target = std::move(target), promise = std::move(promise)]() mutable {
    promise.set_value(open_connection(target));
  }).detach();
  return future;
}

std::unexpected<Error> libvirt_error(const std::string& doing) {
  const auto& [number, domain, message] = last_failure;
  ErrorCode code = code_of(number);
  std::string advice;
  // What the client's side of the protocol reports, whatever number it has, is about the
  // connection.
  if (domain == VIR_FROM_RPC || domain == VIR_FROM_REMOTE) code = ErrorCode::kUnavailable;
  if (message.contains("cannot acquire state change lock")) {
    code = ErrorCode::kBusy;
    advice = "libvirt names who holds the VM; it goes on by itself when they are done";
  }
  return fail(code, fmt::format("{}: {}", doing, message), advice);
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
