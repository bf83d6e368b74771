#include "tests/integration/wsman/hvsim_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/base/assert.h"

namespace farside::hvsim {
namespace {

std::string output_of(const std::string& command) {
  std::FILE* pipe = ::popen(command.c_str(), "r");
  FARSIDE_ASSERT(pipe != nullptr);
  std::string text;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) text += static_cast<char>(c);
  ::pclose(pipe);
  return text;
}

std::string read_line(int fd) {
  std::string line;
  for (char c = 0; ::read(fd, &c, 1) == 1 && c != '\n';) line += c;
  return line;
}

pid_t spawn(const std::vector<std::string>& words, const std::vector<std::string>& environment,
            int input, int output) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> variables;
  for (const std::string& one : environment) variables.push_back(const_cast<char*>(one.c_str()));
  variables.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  pid_t pid = -1;
  const int failed =
      ::posix_spawn(&pid, words[0].c_str(), &actions, nullptr, arguments.data(), variables.data());
  ::posix_spawn_file_actions_destroy(&actions);
  FARSIDE_ASSERT(failed == 0);
  return pid;
}

}  // namespace

HvsimProcess::HvsimProcess(const std::vector<std::string>& more,
                           const std::map<std::string, std::string>& environment) {
  output_of(
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "
      "/CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout " +
      (folder_ / "host.key") + " -out " + ca_file() + " 2>&1");
  std::ofstream(folder_ / "users") << "HVSIM:" << kUser << ":" << kPassword << "\n";
  std::vector<std::string> words{HVSIM_PROGRAM,        "--users",   folder_ / "users",
                                 "--certificate",      ca_file(),   "--key",
                                 folder_ / "host.key", "--control", folder_ / "control"};
  words.insert(words.end(), more.begin(), more.end());
  std::vector<std::string> variables;
  for (char** one = environ; *one != nullptr; ++one) variables.emplace_back(*one);
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);

  std::array<int, 2> in{};
  std::array<int, 2> out{};
  FARSIDE_ASSERT(::pipe2(in.data(), O_CLOEXEC) == 0);
  FARSIDE_ASSERT(::pipe2(out.data(), O_CLOEXEC) == 0);
  pid_ = spawn(words, variables, in[0], out[1]);
  ::close(in[0]);
  ::close(out[1]);
  input_ = in[1];
  const auto ready = nlohmann::json::parse(read_line(out[0]), nullptr, false);
  ::close(out[0]);
  FARSIDE_ASSERT(!ready.is_discarded());
  http_port_ = ready["http"].get<int>();
  https_port_ = ready["https"].get<int>();
}

HvsimProcess::~HvsimProcess() {
  ::close(input_);
  if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
}

void HvsimProcess::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::string HvsimProcess::http_url() const {
  return "http://localhost:" + std::to_string(http_port_) + "/wsman";
}

std::string HvsimProcess::https_url() const {
  return "https://localhost:" + std::to_string(https_port_) + "/wsman";
}

wsman::HttpTarget HvsimProcess::http() const {
  return {.url = http_url()};
}

wsman::HttpTarget HvsimProcess::https() const {
  return {.url = https_url(), .ca_file = ca_file()};
}

std::string HvsimProcess::fingerprint() const {
  const std::string line = output_of("openssl x509 -noout -fingerprint -sha256 -in " + ca_file());
  return line.substr(line.find('=') + 1, 95);
}

void HvsimProcess::order(const std::string& json) const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (folder_ / "control").copy(address.sun_path, sizeof address.sun_path - 1);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  FARSIDE_ASSERT(socket >= 0);
  FARSIDE_ASSERT(::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                 0);
  const std::string line = json + "\n";
  FARSIDE_ASSERT(::send(socket, line.data(), line.size(), MSG_NOSIGNAL) ==
                 static_cast<ssize_t>(line.size()));
  const std::string reply = read_line(socket);
  ::close(socket);
  FARSIDE_ASSERT(reply == "ok");
}

}  // namespace farside::hvsim
