// farside-vault: wiring only.
#include <map>
#include <mutex>

#include "common/base/log.h"
#include "common/base/sha256.h"
#include "common/identity/key_file.h"
#include "common/shell/service.h"
#include "services/vault/desk_files.h"
#include "services/vault/front_door/bearer_token.h"
#include "services/vault/front_door/server.h"
#include "services/vault/vault_core.h"

namespace farside {
namespace {

constexpr std::string_view kProgram = "farside-vault";
constexpr std::string_view kPrincipal = "vault";

// Requests that the core has not answered yet.  Thread: any.
class Waiting final {
 public:
  std::string add(front_door::Responder responder) {
    const std::lock_guard lock(mutex_);
    auto id = "http/" + std::to_string(++last_);
    responders_.emplace(id, std::move(responder));
    return id;
  }
  void answer(const std::string& id, front_door::HttpResponse response) {
    std::optional<front_door::Responder> responder;
    {
      const std::lock_guard lock(mutex_);
      const auto found = responders_.find(id);
      if (found == responders_.end()) return;
      responder.emplace(std::move(found->second));
      responders_.erase(found);
    }
    responder->send(std::move(response));
  }

 private:
  std::mutex mutex_;
  std::uint64_t last_ = 0;
  std::map<std::string, front_door::Responder> responders_;
};

front_door::HttpResponse to_http(msg::HttpResponse from) {
  front_door::HttpResponse out{.status = static_cast<int>(from.status)};
  for (auto& header : from.headers) {
    out.headers.emplace_back(std::move(header.name), std::move(header.value));
  }
  out.body = std::move(from.body);
  return out;
}

// The orchestrator is part of every installation: its key lies ready from the first start on.
Status prepare_orchestrator_key(shell::Service& service, const std::string& path) {
  identity::Registrar registrar(service.issuer(std::string(kPrincipal)));
  FARSIDE_ASSIGN(const auto identities, registrar.identities(service.store()));
  for (const auto& identity : identities) {
    if (identity.peer.role == msg::Role::orchestrator && !identity.peer.revoked) return {};
  }
  reactor::Effects effects(std::string(kPrincipal), service.store(), service.clock().now(),
                           service.clock().monotonic(), service.random());
  constexpr std::string_view kName = "orchestrator-first";
  std::ignore = registrar.revoke_key(std::string(kName), effects);
  FARSIDE_ASSIGN(const auto key, registrar.issue({.name = std::string(kName),
                                                  .role = msg::Role::orchestrator,
                                                  .site = "",
                                                  .valid = identity::kKeyValidMax},
                                                 effects));
  FARSIDE_TRY(service.store().commit(effects.writes));
  return vault::write_private(path, identity::to_toml(key));
}

Status run(int argc, char** argv) {
  FARSIDE_ASSIGN(const auto line,
                 shell::parse_command_line(argc, argv, kProgram,
                                           "Farside's system of record and front door."));
  if (!line) return {};
  FARSIDE_ASSIGN(auto config, Config::from_file(line->config_path));
  const auto settings = shell::read_common(
      config, {.listen = "tcp://0.0.0.0:8081", .metrics_port = 9101, .workers = 1});
  front_door::ServerOptions http{
      .address = config.text("http.address", "0.0.0.0"),
      .port = static_cast<std::uint16_t>(config.integer("http.port", 8443, 0, 65535)),
      .certificate_folder = settings.data_dir + "/tls",
      .names = config.texts("http.names")};
  vault::VaultSettings own{.name = config.text("name", "farside"), .token_sha256 = {}};
  FARSIDE_TRY(config.finish());
  if (line->check) return {};

  FARSIDE_ASSIGN(const auto service, shell::Service::open(std::string(kProgram), settings));
  if (line->rotate_identity) return service->rotate_identity();
  FARSIDE_TRY(service->open_bus());
  FARSIDE_ASSIGN(const auto token, vault::load_or_create_token(settings.data_dir + "/owner.token",
                                                               service->random()));
  own.token_sha256 = sha256_hex(token);
  const front_door::BearerToken bearer(own.token_sha256);
  FARSIDE_TRY(prepare_orchestrator_key(*service, settings.data_dir + "/orchestrator.key"));

  Waiting waiting;
  vault::Probe probe(service->metrics(), service->notices());
  vault::VaultCore core(own, service->issuer(std::string(kPrincipal)), probe);
  std::unique_ptr<front_door::Server> server;
  const auto on_ready = [&](reactor::WorkerPool& pool) -> Status {
    FARSIDE_ASSIGN(server,
                   front_door::Server::start(
                       http, service->clock(),
                       [&](std::string_view authorization) { return bearer.admits(authorization); },
                       [&](front_door::HttpRequest request, front_door::Responder responder) {
                         const auto id = waiting.add(std::move(responder));
                         const auto posted = pool.post(
                             id, reactor::message(msg::HttpRequest{
                                     .method = std::move(request.method),
                                     .path = std::move(request.path),
                                     .query = std::move(request.query),
                                     .authorization = std::move(request.authorization),
                                     .client_request_id = std::move(request.client_request_id),
                                     .body = std::move(request.body),
                                     .host = std::move(request.host)}));
                         if (!posted) waiting.answer(id, front_door::arm_error(posted.error()));
                       }));
    log::info("front door open", {{"port", server->port()}, {"ca", server->ca_file()}});
    return {};
  };
  const auto status =
      service->run({.self = std::string(kPrincipal),
                    .core = core,
                    .on_answer =
                        [&](const std::string& id, msg::Message body) {
                          if (auto* response = std::get_if<msg::HttpResponse>(&body.value)) {
                            waiting.answer(id, to_http(std::move(*response)));
                          }
                        },
                    .on_ready = on_ready,
                    .on_end = [&] { server.reset(); },
                    .on_turn = [&] { probe.front_door(server->stats()); }});
  return status;
}

}  // namespace
}  // namespace farside

int main(int argc, char** argv) {
  const auto status = farside::run(argc, argv);
  return status ? 0 : farside::shell::refuse_to_start(farside::kProgram, status.error());
}
