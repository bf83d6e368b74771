// A simulated Hyper-V host: its WS-Management service over HTTP and HTTPS on loopback.
//
// Says `{"http":PORT,"https":PORT}` on standard output when it is ready, with --root also
// "files": the folder that stands for the host's drives; ends with its standard input.
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/base/file.h"
#include "common/wsman/channel_binding.h"
#include "tests/support/hvsim/control.h"
#include "tests/support/hvsim/http_server.h"
#include "tests/support/hvsim/hyperv_model.h"
#include "tests/support/hvsim/real_host.h"
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

std::string beside_the_program(const std::string& name) {
  std::error_code none;
  return std::filesystem::read_symlink("/proc/self/exe", none).parent_path() / name;
}

// Meanwhile time passes for jobs and guests, whether anybody asks or not.
void wait_for_the_end_of_input(SoapHost& host, Jobs& jobs, RealHost* real) {
  constexpr int kTickMs = 50;
  for (;;) {
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&input, 1, real == nullptr ? -1 : kTickMs);
    char ignored = 0;
    if (ready > 0 && ::read(STDIN_FILENO, &ignored, 1) <= 0) return;
    if (real == nullptr) continue;
    host.exclusively([&] {
      real->tick();
      jobs.advance();
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("A simulated Hyper-V host.");
  ServerOptions http;
  ServerOptions https;
  std::string users;
  std::string keytab;
  std::string bound_to;
  std::string control_path;
  std::string vmm;
  ModelOptions model;
  JobTimes times;
  SoapLimits limits;
  std::string vms;
  RealHostOptions real;
  real.guest.vhdx_plugin = beside_the_program("vhdx_nbd.so");
  std::int64_t context_ms = limits.context_kept.count() / 1000;
  app.add_option("--http-port", http.port, "0: a free one");
  app.add_option("--https-port", https.port, "0: a free one");
  app.add_option("--certificate", https.certificate, "PEM; without it there is no HTTPS");
  app.add_option("--key", https.key, "PEM");
  app.add_option("--client-ca", https.client_ca, "PEM; who signs clients' certificates");
  app.add_option(
      "--bound-to", bound_to,
      "PEM, or 'own'; logins over TLS that are bound to another certificate are refused: "
      "that of another host is how a login that is passed on looks. Kerberos ones that "
      "are bound to none are, too; of NTLM ones nothing tells");
  app.add_option("--users", users, "file of DOMAIN:USER:PASSWORD lines")->required();
  app.add_option("--keytab", keytab, "for Kerberos");
  app.add_option("--control", control_path, "Unix socket for orders");
  app.add_option("--host", model.host, "its name");
  app.add_option("--vms", vms, "how many virtual machines; with --root a file that lists them");
  app.add_option("--root", real.root, "folder of a host whose machines really run");
  app.add_option("--switch", real.switches, "a virtual switch; may be repeated");
  app.add_option("--kernel", real.guest.kernel, "of the witness guest");
  app.add_option("--initrd", real.guest.initrd, "of the witness guest");
  app.add_option("--guest-arguments", real.guest.arguments,
                 "for the kernel of VMs that are defined");
  app.add_option("--vhdx-plugin", real.guest.vhdx_plugin, "nbdkit's for differencing disks");
  app.add_flag("!--no-disk-locks", real.guest.locks_disks, "live disks can be opened");
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
  Jobs jobs(objects, faults, clock, random, times);
  std::unique_ptr<RealHost> real_host;
  if (real.root.empty()) {
    if (!vms.empty()) model.vms = std::atoi(vms.c_str());
    fill_model(objects, model);
    add_methods(methods, objects, jobs, faults);
  } else {
    real.vms = vms;
    real.host = model.host;
    real.description = model.description();
    fill_host(objects, model);
    real_host = std::make_unique<RealHost>(objects, jobs, faults, random, real);
    if (const Status booted = real_host->boot(); !booted) {
      std::fprintf(stderr, "hvsim: %s\n", to_text(booted.error()).c_str());
      return 1;
    }
    add_power_methods(methods, *real_host);
    add_checkpoint_methods(methods, *real_host);
    add_image_methods(methods, *real_host);
    add_settings_methods(methods, *real_host);
    add_network_methods(methods, *real_host);
  }
  SoapHost host(objects, methods, jobs, clock, random, limits);
  ShellHost shell(vmm, random);
  if (!vmm.empty()) host.serve_shell(shell);
  DoorOptions door{.passwords = read_passwords(users)};
  if (!bound_to.empty()) {
    const auto certificate = read_file(bound_to == "own" ? https.certificate : bound_to);
    const auto binding =
        certificate ? wsman::tls_server_end_point(*certificate) : Result<std::string>(certificate);
    if (!binding) {
      std::fprintf(stderr, "hvsim: %s\n", to_text(binding.error()).c_str());
      return 1;
    }
    door.binding = *binding;
  }
  const auto talk = [&](bool is_tls, std::string certificate) {
    return std::make_unique<Conversation>(host, faults, door, is_tls, std::move(certificate));
  };

  MoreOrders more;
  if (real_host) {
    more = [&](const nlohmann::json& order) {
      return host.exclusively([&] { return real_host->obey(order); });
    };
  }

  auto plain = HttpServer::start(http, talk);
  auto tls = https.certificate.empty() ? Result<std::unique_ptr<HttpServer>>(nullptr)
                                       : HttpServer::start(https, talk);
  auto control = control_path.empty() ? Result<std::unique_ptr<Control>>(nullptr)
                                      : Control::start(control_path, faults, more);
  for (const Error* error : {plain ? nullptr : &plain.error(), tls ? nullptr : &tls.error(),
                             control ? nullptr : &control.error()}) {
    if (error == nullptr) continue;
    std::fprintf(stderr, "hvsim: %s\n", error->what.c_str());
    return 1;
  }
  nlohmann::json ready{{"http", (*plain)->port()}, {"https", *tls == nullptr ? 0 : (*tls)->port()}};
  if (real_host) ready["files"] = real_host->files.shared();
  std::printf("%s\n", ready.dump().c_str());
  std::fflush(stdout);
  wait_for_the_end_of_input(host, jobs, real_host.get());
  if (real_host) host.exclusively([&] { real_host->shut_down(); });
  return 0;
}
