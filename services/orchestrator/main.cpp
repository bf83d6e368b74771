// farside-orchestrator: wiring only.
#include "common/shell/service.h"
#include "services/orchestrator/orchestrator_core.h"

namespace farside {
namespace {

constexpr std::string_view kProgram = "farside-orchestrator";

Status run(int argc, char** argv) {
  FARSIDE_ASSIGN(const auto line, shell::parse_command_line(argc, argv, kProgram,
                                                            "Runs Farside's workflows durably."));
  if (!line) return {};
  FARSIDE_ASSIGN(auto config, Config::from_file(line->config_path));
  const auto settings =
      shell::read_common(config, {.listen = "tcp://0.0.0.0:8082", .metrics_port = 9102});
  FARSIDE_TRY(config.finish());
  if (line->check) return {};

  FARSIDE_ASSIGN(const auto service, shell::Service::open(std::string(kProgram), settings));
  if (line->rotate_identity) return service->rotate_identity();
  FARSIDE_TRY(service->open_bus());
  FARSIDE_ASSIGN(const auto self, service->ensure_member(msg::Role::orchestrator, "orchestrator"));
  orchestrator::Probe probe(service->metrics());
  orchestrator::OrchestratorCore core(probe);
  return service->run({.self = self.principal, .core = core});
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  const auto status = farside::run(argc, argv);
  return status ? 0 : farside::shell::refuse_to_start(farside::kProgram, status.error());
}
