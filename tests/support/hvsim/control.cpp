#include "tests/support/hvsim/control.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

namespace farside::hvsim {
namespace {

using Json = nlohmann::json;

std::string obey_json(Faults& faults, const Json& order) {
  const std::string what = order.value("do", "");
  const int times = order.value("times", 1);
  const std::lock_guard lock(faults.mutex);
  if (what == "unauthorized") {
    faults.unauthorized = times;
  } else if (what == "reset") {
    faults.resets = times;
  } else if (what == "delay") {
    faults.delays = times;
    faults.delay_ms = order.value("ms", 0);
  } else if (what == "job_time") {
    faults.job_ms = order.value("ms", 0);
  } else if (what == "settings_by_job") {
    faults.settings_by_job = order.value("on", true);
  } else if (what == "fail_jobs") {
    faults.failing_jobs = times;
    faults.failing_code = order.value("code", 32768);
    faults.failing_text = order.value("text", "The operation failed.");
  } else if (what == "lose_tracking") {
    faults.tracking_lost.insert(order.at("path").get<std::string>());
  } else if (what == "disk_changes") {
    DiskChanges& changes = faults.disk_changes[order.at("path").get<std::string>()];
    changes.disk_bytes = order.at("disk_bytes").get<std::uint64_t>();
    changes.ranges.clear();
    for (const Json& range : order.at("ranges")) {
      changes.ranges.emplace_back(range.at(0).get<std::uint64_t>(),
                                  range.at(1).get<std::uint64_t>());
    }
    faults.tracking_lost.erase(order.at("path").get<std::string>());
  } else {
    return "no such order: " + what;
  }
  return "ok";
}

}  // namespace

std::string obey(Faults& faults, const std::string& line, const MoreOrders& more) {
  try {
    const Json order = Json::parse(line);
    const std::string answer = more ? more(order) : "";
    return answer.empty() ? obey_json(faults, order) : answer;
  } catch (const Json::exception& error) {
    return error.what();
  }
}

struct Control::Impl {
  Faults& faults;
  MoreOrders more;
  std::string path;
  int socket = -1;
  std::atomic<bool> is_stopping = false;
  std::atomic<int> client = -1;
  std::jthread thread;

  void serve() {
    while (!is_stopping) {
      const int accepted = ::accept(socket, nullptr, nullptr);
      if (accepted < 0) continue;
      client = accepted;
      std::string read;
      char bytes[4096];
      for (ssize_t count = 0;
           !is_stopping && (count = ::read(accepted, bytes, sizeof bytes)) > 0;) {
        read.append(bytes, static_cast<std::size_t>(count));
        for (std::size_t end = 0; (end = read.find('\n')) != std::string::npos;) {
          const std::string reply = obey(faults, read.substr(0, end), more) + "\n";
          read.erase(0, end + 1);
          if (::send(accepted, reply.data(), reply.size(), MSG_NOSIGNAL) < 0) break;
        }
      }
      client = -1;
      ::close(accepted);
    }
  }
};

Control::Control(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Control::~Control() {
  impl_->is_stopping = true;
  ::shutdown(impl_->socket, SHUT_RDWR);
  if (const int client = impl_->client; client >= 0) ::shutdown(client, SHUT_RDWR);
  impl_->thread.join();
  ::close(impl_->socket);
  ::unlink(impl_->path.c_str());
}

Result<std::unique_ptr<Control>> Control::start(const std::string& path, Faults& faults,
                                                MoreOrders more) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(ErrorCode::kUnavailable, "path too long");
  path.copy(address.sun_path, path.size());
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return fail(ErrorCode::kUnavailable, "no more sockets");
  ::unlink(path.c_str());  // Of a host that was killed.
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket, 4) != 0) {
    ::close(socket);
    return fail(ErrorCode::kUnavailable, "listen on " + path);
  }
  std::unique_ptr<Impl> impl(
      new Impl{.faults = faults, .more = std::move(more), .path = path, .socket = socket});
  impl->thread = std::jthread([raw = impl.get()] { raw->serve(); });
  return std::unique_ptr<Control>(new Control(std::move(impl)));
}

}  // namespace farside::hvsim
