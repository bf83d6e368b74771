// farside-provider: wiring only.
#include <fstream>
#include <sstream>

#include "common/shell/service.h"
#include "services/provider/provider_core.h"
#include "services/provider/site.h"

namespace farside {
namespace {

constexpr std::string_view kProgram = "farside-provider";

Result<msg::Message> read_site(const std::string& path) {
  std::ifstream in(path);
  if (!in) {
    return fail(ErrorCode::kNotFound, "site file '" + path + "' cannot be read",
                "check site_file in the configuration");
  }
  std::ostringstream text;
  text << in.rdbuf();
  FARSIDE_ASSIGN(auto site, provider::site_from_toml(text.str(), path));
  return reactor::message(msg::SiteRead{.site = std::move(site)});
}

Status run(int argc, char** argv) {
  FARSIDE_ASSIGN(const auto line,
                 shell::parse_command_line(argc, argv, kProgram,
                                           "Registers a site, owns its inventory, drives agents."));
  if (!line) return {};
  FARSIDE_ASSIGN(auto config, Config::from_file(line->config_path));
  const auto settings = shell::read_common(
      config, {.listen = "tcp://0.0.0.0:8083", .metrics_port = 9103, .workers = 2});
  const auto name = config.text("name", "provider");
  const auto site_file = config.required_text("site_file");
  FARSIDE_TRY(config.finish());
  if (line->check) {
    FARSIDE_TRY(read_site(site_file));
    return {};
  }

  FARSIDE_ASSIGN(const auto service, shell::Service::open(std::string(kProgram), settings));
  FARSIDE_TRY(service->open_bus());
  FARSIDE_ASSIGN(const auto self, service->ensure_member(msg::Role::provider, name));
  provider::Probe probe(service->metrics(), service->problems());
  provider::ProviderCore core(self.site, service->issuer(self.principal), probe);
  return service->run({.self = self.principal,
                       .core = core,
                       .job = [&site_file](const std::string&, const msg::Message&) {
                         return read_site(site_file);
                       }});
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  const auto status = farside::run(argc, argv);
  return status ? 0 : farside::shell::refuse_to_start(farside::kProgram, status.error());
}
