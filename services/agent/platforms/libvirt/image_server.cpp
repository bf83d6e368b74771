#include "services/agent/platforms/libvirt/image_server.h"

#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <vector>

#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/program.h"

namespace farside::agent::libvirt {
namespace {

constexpr std::chrono::seconds kStartMax(20);

// The format is named, so that nothing in a guest's disk is taken for one.
std::string describe(const std::string& path) {
  const nlohmann::json image = {
      {"driver", "qcow2"},
      {"read-only", true},
      {"force-share", true},
      {"file",
       {{"driver", "file"}, {"filename", path}, {"read-only", true}, {"force-share", true}}}};
  return "json:" + image.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(fd, buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<std::size_t>(got));
  }
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace

Result<std::unique_ptr<ImageServer>> ImageServer::start(const Image& image) {
  ::unlink(image.socket.c_str());
  std::vector<std::string> words = {"qemu-nbd", "--read-only", "--shared=8",
                                    "--socket=" + image.socket, "--export-name=" + image.name};
  if (!image.bitmap.empty()) words.push_back("--bitmap=" + image.bitmap);
  words.push_back(describe(image.path));
  FARSIDE_ASSIGN(const Spawned spawned, spawn_program(std::move(words)));
  std::unique_ptr<ImageServer> server(new ImageServer(spawned.pid, image.socket));
  Status status;
  for (const Deadline deadline(kStartMax); ::access(image.socket.c_str(), F_OK) != 0;) {
    if (::waitpid(spawned.pid, nullptr, WNOHANG) == spawned.pid) {
      server->pid_ = 0;
      status = fail(ErrorCode::kPlatform,
                    fmt::format("open {}: {}", image.path, read_all(spawned.output_fd)));
      break;
    }
    if (!deadline.pause()) {
      status = fail(ErrorCode::kTimeout, fmt::format("qemu-nbd does not open {}", image.path));
      break;
    }
  }
  ::close(spawned.output_fd);
  if (!status) return fail(std::move(status).error());
  return server;
}

bool ImageServer::has_ended() {
  if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = 0;
  return pid_ == 0;
}

ImageServer::~ImageServer() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  ::unlink(socket_.c_str());
}

}  // namespace farside::agent::libvirt
