// A simulated Hyper-V host: its WS-Management service over HTTP and HTTPS on loopback.
//
// Says `{"http":PORT,"https":PORT}` on standard output when it is ready; ends with its standard
// input.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "tests/support/hvsim/control.h"
#include "tests/support/hvsim/http_server.h"
#include "tests/support/hvsim/hyperv_model.h"
#include "tests/support/hvsim/shell_host.h"

namespace {

using namespace farside;         // This is a program of its own.
using namespace farside::hvsim;  // Likewise.

// DOMAIN:USER:PASSWORD lines, which gss-ntlmssp reads, too.
std::map<std::string, std::string> read_passwords(const std::string& path) {
  std::map<std::string, std::string> passwords;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const std::size_t user = line.find(':');
    const std::size_t password = line.find(':', user + 1);
    if (password == std::string::npos) continue;
    passwords[line.substr(user + 1, password - user - 1)] = line.substr(password + 1);
  }
  return passwords;
}

void wait_for_the_end_of_input() {
  char ignored = 0;
  while (::read(STDIN_FILENO, &ignored, 1) > 0) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("A simulated Hyper-V host.");
  ServerOptions http;
  ServerOptions https;
  std::string users;
  std::string keytab;
  std::string control_path;
  std::string vmm;
  ModelOptions model;
  JobTimes times;
  SoapLimits limits;
  std::int64_t context_ms = limits.context_kept.count() / 1000;
  app.add_option("--http-port", http.port, "0: a free one");
  app.add_option("--https-port", https.port, "0: a free one");
  app.add_option("--certificate", https.certificate, "PEM; without it there is no HTTPS");
  app.add_option("--key", https.key, "PEM");
  app.add_option("--client-ca", https.client_ca, "PEM; who signs clients' certificates");
  app.add_option("--users", users, "file of DOMAIN:USER:PASSWORD lines")->required();
  app.add_option("--keytab", keytab, "for Kerberos");
  app.add_option("--control", control_path, "Unix socket for orders");
  app.add_option("--vms", model.vms, "how many virtual machines");
  app.add_flag("--german", model.is_german, "descriptions in another language");
  app.add_option("--time-scale", times.scale, "jobs pass so many times faster");
  app.add_option("--max-envelope", limits.envelope_bytes_max, "bytes");
  app.add_option("--context-ms", context_ms, "how long enumerations are kept");
  app.add_option("--vmm", vmm,
                 "folder of what Virtual Machine Manager's scripts say; see shell_host.h");
  CLI11_PARSE(app, argc, argv);
  limits.context_kept = Micros{context_ms * 1000};
  ::setenv("NTLM_USER_FILE", users.c_str(), 1);
  if (!keytab.empty()) ::setenv("KRB5_KTNAME", keytab.c_str(), 1);

  const SystemClock clock;
  SystemRandom random;
  Faults faults;
  Objects objects;
  Methods methods;
  fill_model(objects, model);
  Jobs jobs(objects, faults, clock, random, times);
  add_methods(methods, objects, jobs, faults);
  SoapHost host(objects, methods, jobs, clock, random, limits);
  ShellHost shell(vmm, random);
  if (!vmm.empty()) host.serve_shell(shell);
  const DoorOptions door{.passwords = read_passwords(users)};
  const auto talk = [&](bool is_tls, std::string certificate) {
    return std::make_unique<Conversation>(host, faults, door, is_tls, std::move(certificate));
  };

  auto plain = HttpServer::start(http, talk);
  auto tls = https.certificate.empty() ? Result<std::unique_ptr<HttpServer>>(nullptr)
                                       : HttpServer::start(https, talk);
  auto control = control_path.empty() ? Result<std::unique_ptr<Control>>(nullptr)
                                      : Control::start(control_path, faults);
  for (const Error* error : {plain ? nullptr : &plain.error(), tls ? nullptr : &tls.error(),
                             control ? nullptr : &control.error()}) {
    if (error == nullptr) continue;
    std::fprintf(stderr, "hvsim: %s\n", error->what.c_str());
    return 1;
  }
  std::printf("{\"http\":%d,\"https\":%d}\n", (*plain)->port(),
              *tls == nullptr ? 0 : (*tls)->port());
  std::fflush(stdout);
  wait_for_the_end_of_input();
  return 0;
}
