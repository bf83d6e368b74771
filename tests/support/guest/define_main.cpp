// farside-guest-define: defines a VM that runs the witness guest, and starts it if asked.
//
//   farside-guest-define (--root DIR | --uri URI) --guest DIR --name NAME --id UUID
//       --disk PATH:MIB ... [--serial FILE] [--option KEY=VALUE ...] [--card XML ...] [--start]
//
// Disks that do not exist are created.  With --root, no other process may have that root open
// meanwhile: run it before the agent.  The guest goes on when this program ends.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>

#include "services/agent/platforms/libvirt/connection.h"
#include "tests/support/guest/domain.h"

namespace farside {
namespace {

Status define(const agent::libvirt::ConnectionTarget& target, const guest::WitnessVm& vm,
              bool start) {
  FARSIDE_ASSIGN(const auto connection, agent::libvirt::open_connection(target));
  const agent::libvirt::DomainHandle domain(
      virDomainDefineXML(connection.get(), guest::to_xml(vm).c_str()));
  if (!domain) return agent::libvirt::libvirt_error("define " + vm.name);
  if (!start || virDomainIsActive(domain.get()) == 1) return {};
  if (virDomainCreate(domain.get()) != 0) return agent::libvirt::libvirt_error("start " + vm.name);
  return {};
}

Result<std::string> prepare_disk(const std::string& word) {
  const auto colon = word.rfind(':');
  if (colon == std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("--disk {}", word), "write PATH:MIB");
  }
  const std::string path = std::filesystem::absolute(word.substr(0, colon));
  if (std::filesystem::exists(path)) return path;
  const std::uint64_t mib = std::strtoull(word.c_str() + colon + 1, nullptr, 10);
  FARSIDE_TRY(guest::create_qcow2(path, mib << 20U));
  return path;
}

Status run(const agent::libvirt::ConnectionTarget& target, guest::WitnessVm vm,
           const std::vector<std::string>& disks, const std::vector<std::string>& options,
           bool start) {
  for (const std::string& word : disks) {
    FARSIDE_ASSIGN(const std::string path, prepare_disk(word));
    vm.disks.push_back(path);
  }
  for (const std::string& word : options) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) {
      return fail(ErrorCode::kInvalidArgument, fmt::format("--option {}", word), "write KEY=VALUE");
    }
    vm.options[word.substr(0, equals)] = word.substr(equals + 1);
  }
  return define(target, vm, start);
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  using namespace farside;
  CLI::App app("Defines a VM that runs the witness guest.", "farside-guest-define");
  agent::libvirt::ConnectionTarget target;
  guest::WitnessVm vm;
  std::vector<std::string> disks;
  std::vector<std::string> options;
  bool start = false;
  app.add_option("--root", target.root, "Directory of libvirt's embedded driver");
  app.add_option("--uri", target.uri, "libvirt URI, such as qemu:///system");
  app.add_option("--guest", vm.guest_dir, "Directory with vmlinuz and initrd.gz")->required();
  app.add_option("--name", vm.name)->required();
  app.add_option("--id", vm.id, "UUID")->required();
  app.add_option("--disk", disks, "PATH:MIB; created if it does not exist")->required();
  app.add_option("--serial", vm.serial_log, "File for the serial console");
  app.add_option("--option", options, "KEY=VALUE of the witness");
  app.add_option("--card", vm.cards, "An <interface> element");
  app.add_option("--memory-mib", vm.memory_mib);
  app.add_option("--type", vm.type, "qemu or kvm");
  app.add_flag("--start", start);
  CLI11_PARSE(app, argc, argv);

  if (const auto done = run(target, std::move(vm), disks, options, start); !done) {
    fmt::print(stderr, "farside-guest-define: {}\n", to_text(done.error()));
    return 1;
  }
  return 0;
}
