// farside-provider: wiring only.
#include <memory>

#include "common/shell/service.h"
#include "services/provider/provider_core.h"
#include "services/provider/site.h"
#include "services/provider/vmm/vmm_source.h"
#include "services/provider/vmm/winrm.h"

namespace farside {
namespace {

namespace vmm = provider::vmm;

constexpr std::string_view kProgram = "farside-provider";

constexpr std::int64_t kRefreshS = 300;

struct Settings {
  std::string name;
  std::string site_file;
  vmm::Server vmm;  // No URL: the site file is all there is.
  Micros refresh{0};
};

Settings read_settings(Config& config) {
  Settings settings{.name = config.text("name", "provider"),
                    .site_file = {},
                    .vmm = {.url = config.text("vmm.url", ""),
                            .user = {},
                            .password_file = {},
                            .ca_file = config.text("vmm.ca_file", ""),
                            .fingerprint = config.text("vmm.fingerprint", ""),
                            .mechanism = wsman::mechanism_from(config.choice(
                                "vmm.mechanism", "kerberos", {"kerberos", "ntlm", "any"}))}};
  settings.refresh = std::chrono::seconds{config.integer("vmm.refresh_s", kRefreshS, 10, 86'400)};
  if (settings.vmm.url.empty()) {
    settings.site_file = config.required_text("site_file");
  } else {
    settings.site_file = config.text("site_file", "");
    settings.vmm.user = config.required_text("vmm.user");
    settings.vmm.password_file = config.required_text("vmm.password_file");
  }
  return settings;
}

// What can be told without the VMM server.
Status check_site(const Settings& settings) {
  if (settings.site_file.empty()) return {};
  FARSIDE_ASSIGN(const std::string text, provider::text_of_site_file(settings.site_file));
  if (settings.vmm.url.empty()) {
    FARSIDE_TRY(provider::site_from_toml(text, settings.site_file));
  } else {
    FARSIDE_TRY(vmm::mapping_from_toml(text, settings.site_file));
  }
  return {};
}

Result<msg::Message> read_site(provider::SiteSource& source) {
  FARSIDE_ASSIGN(auto site, source.read());
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
  const auto own = read_settings(config);
  FARSIDE_TRY(config.finish());
  if (line->check) return check_site(own);

  FARSIDE_ASSIGN(const auto service, shell::Service::open(std::string(kProgram), settings));
  if (line->rotate_identity) return service->rotate_identity();
  FARSIDE_TRY(service->open_bus());
  FARSIDE_ASSIGN(const auto self, service->ensure_member(msg::Role::provider, own.name));
  provider::Probe probe(service->metrics(), service->problems());
  provider::ProviderCore core(self.site, service->issuer(self.principal), probe);
  std::unique_ptr<provider::SiteSource> source;
  if (own.vmm.url.empty()) {
    source = std::make_unique<provider::SiteFile>(own.site_file);
  } else {
    source = std::make_unique<vmm::VmmSource>(
        vmm::by_winrm(own.vmm, service->clock(), service->random()), own.site_file, own.refresh,
        service->clock());
  }
  return service->run(
      {.self = self.principal,
       .core = core,
       .job = [&source](const std::string&, const msg::Message&) { return read_site(*source); }});
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  const auto status = farside::run(argc, argv);
  return status ? 0 : farside::shell::refuse_to_start(farside::kProgram, status.error());
}
