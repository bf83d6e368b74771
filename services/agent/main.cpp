// farside-agent: wiring only.
#include "common/base/log.h"
#include "common/shell/service.h"
#include "common/store/format_version.h"
#include "services/agent/agent_core.h"
#include "services/agent/agent_worker.h"
#include "services/agent/host_settings.h"
#include "services/agent/patience.h"

namespace farside {
namespace {

constexpr std::string_view kProgram = "farside-agent";
const store::Format kPending{.kind = "pending deltas", .version = 1};
const store::Format kPlatform{.kind = "platform state", .version = 1};

struct OwnSettings {
  std::string name;
  std::string data_listen;
  std::string data_advertise;
  std::string run_dir;
  std::string view_plugin;
  agent::HostSettings host;
};

Result<OwnSettings> read_own(Config& config, const shell::CommonSettings& common) {
  OwnSettings out;
  out.name = config.required_text("name");
  out.data_listen = config.text("data.listen", "tcp://*:8084");
  out.data_advertise = config.text("data.advertise", "");
  out.run_dir = config.text("run_dir", common.data_dir + "/run");
  out.view_plugin = config.text("view_plugin", "");
  FARSIDE_ASSIGN(out.host, agent::read_host_settings(config, out.name, common.data_dir));
  return out;
}

Status run(int argc, char** argv) {
  FARSIDE_ASSIGN(const auto line,
                 shell::parse_command_line(argc, argv, kProgram,
                                           "Replicates the virtual machines of one host."));
  if (!line) return {};
  FARSIDE_ASSIGN(auto config, Config::from_file(line->config_path));
  auto settings = shell::read_common(config, {.listen = "", .metrics_port = 9104, .workers = 32});
  settings.lets_pass = true;  // The hypervisor's processes, to what they have of us.
  FARSIDE_ASSIGN(const auto own, read_own(config, settings));
  FARSIDE_TRY(config.finish());
  if (line->check) return {};

  FARSIDE_ASSIGN(const auto service, shell::Service::open(std::string(kProgram), settings));
  if (line->rotate_identity) return service->rotate_identity();
  FARSIDE_TRY(service->open_bus());
  FARSIDE_ASSIGN(const auto self, service->ensure_member(msg::Role::agent, own.name));
  FARSIDE_TRY(store::claim_folder(settings.data_dir + "/pending", kPending));
  FARSIDE_TRY(store::claim_folder(settings.data_dir + "/platform", kPlatform));
  FARSIDE_ASSIGN(const auto platform, agent::open_host(own.host, service->clock()));

  // Progress goes to the core as if a job had returned it; jobs run in the pool, so whoever
  // reports does so while it lives.
  reactor::WorkerPool* pool = nullptr;
  const agent::Report report = [&pool](msg::Progress progress) {
    if (pool == nullptr) return;
    pool->moved(progress.request, progress.done);
    std::ignore = pool->post("progress", reactor::message(std::move(progress)));
  };
  // Where base disks lie on the host, it reads them by itself: nobody needs to serve them.
  replica::Views views(own.run_dir, own.view_plugin, platform->base_disks() == nullptr,
                       [&](const std::string& socket) { return platform->share_view(socket); });
  agent::TargetWork target({.endpoint = own.data_advertise,
                            .public_key = service->keys().public_key,
                            .storage = own.host.storage,
                            .log_folder = settings.data_dir + "/platform"},
                           *platform, views, service->clock(), report);
  FARSIDE_ASSIGN(const auto receiver,
                 data::Receiver::start(
                     {.endpoint = own.data_listen,
                      .keys = service->keys(),
                      .open_item =
                          [&](const std::string& item, const std::vector<msg::ReplicaDisk>& disks) {
                            return target.open_item(item, disks);
                          }},
                     service->clock()));
  target.attach(*receiver);
  const auto endpoint = own.data_advertise.empty() ? receiver->endpoint() : own.data_advertise;
  target.set_endpoint(endpoint);
  log::info("data port open", {{"endpoint", receiver->endpoint()}, {"advertise", endpoint}});

  data::Shipper shipper(settings.data_dir + "/pending", service->random());
  agent::SourceWork source(*platform, shipper, service->keys(), service->clock(), report);
  agent::AgentWorker worker(*platform, source, target, endpoint, service->keys().public_key);
  agent::Probe probe(service->metrics(), service->problems());
  agent::AgentCore core("provider/" + self.site, service->keys().public_key, probe);
  return service->run(
      {.self = self.principal,
       .core = core,
       .job = [&](const std::string& id, const msg::Message& job) { return worker.run(id, job); },
       .is_urgent = agent::AgentWorker::is_urgent,
       .patience = agent::patience_for,
       .on_ready = [&](reactor::WorkerPool& made) -> Status {
         pool = &made;
         return {};
       },
       .on_stop =
           [&] {
             source.cancel_all();
             target.cancel_all();
           },
       .on_turn =
           [&] {
             service->problems().set("data port", receiver->problem());
             probe.data_port(receiver->figures());
           }});
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  const auto status = farside::run(argc, argv);
  return status ? 0 : farside::shell::refuse_to_start(farside::kProgram, status.error());
}
