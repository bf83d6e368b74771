#include "services/agent/platforms/libvirt/qemu_monitor.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "common/base/file.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::size_t kLineMax = std::size_t{16} << 20U;

}  // namespace

Result<QemuMonitor> QemuMonitor::open(const std::string& path, std::chrono::milliseconds within) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::kInvalidArgument, "the path of the monitor " + path + " is too long");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  QemuMonitor monitor(Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), within);
  if (!monitor.socket_ ||
      ::connect(monitor.socket_.get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof address) != 0) {
    return fail(from_errno(errno, "connect to the monitor " + path));
  }
  FARSIDE_TRY(monitor.next());  // Its greeting.
  FARSIDE_TRY(monitor.execute("qmp_capabilities"));
  return monitor;
}

Result<nlohmann::json> QemuMonitor::next() {
  for (std::size_t end = 0;;) {
    end = read_.find('\n');
    if (end != std::string::npos) {
      auto line = nlohmann::json::parse(read_.substr(0, end), nullptr, false);
      read_.erase(0, end + 1);
      if (line.is_discarded()) return fail(ErrorCode::kCorrupt, "QEMU's monitor sent no JSON");
      return line;
    }
    if (deadline_.passed()) return fail(ErrorCode::kTimeout, "QEMU's monitor does not answer");
    if (read_.size() > kLineMax) return fail(ErrorCode::kTooLarge, "QEMU's monitor does not end");
    pollfd one{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&one, 1, 100) <= 0) continue;
    std::array<char, 65'536> part{};
    const ssize_t n = ::recv(socket_.get(), part.data(), part.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(ErrorCode::kUnavailable, "QEMU's monitor was closed");
    read_.append(part.data(), static_cast<std::size_t>(n));
  }
}

Result<nlohmann::json> QemuMonitor::execute(const std::string& command,
                                            const nlohmann::json& arguments) {
  nlohmann::json request{{"execute", command}};
  if (!arguments.empty()) request["arguments"] = arguments;
  const std::string text = request.dump() + "\n";
  if (::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(text.size())) {
    return fail(from_errno(errno, "ask QEMU for " + command));
  }
  while (true) {
    FARSIDE_ASSIGN(const nlohmann::json answer, next());
    if (answer.contains("return")) return answer["return"];
    if (!answer.contains("error")) continue;  // An event.
    return fail(ErrorCode::kPlatform, command + ": " + answer["error"].value("desc", "refused"));
  }
}

}  // namespace farside::agent::libvirt
