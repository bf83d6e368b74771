#include "services/vault/rest/rest.h"

#include "common/base/log.h"
#include "common/flow/fault.h"
#include "common/identity/key_file.h"
#include "services/vault/front_door/arm_errors.h"
#include "services/vault/front_door/bearer_token.h"
#include "services/vault/front_door/lro.h"
#include "services/vault/front_door/uri.h"
#include "services/vault/rest/json.h"

namespace farside::vault {
namespace {

#define VAULTS "/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.RecoveryServices/vaults"
#define VAULT VAULTS "/{v}"
#define FABRIC VAULT "/replicationFabrics/{fabric}"
#define CLOUD FABRIC "/replicationProtectionContainers/{cloud}"
#define ITEM CLOUD "/replicationProtectedItems/{item}"
#define STORAGE FABRIC "/replicationStorageClassifications/{storage}"
#define STORAGE_MAPPING STORAGE "/replicationStorageClassificationMappings"
#define MAPPING FABRIC "/replicationNetworks/{network}/replicationNetworkMappings"

msg::Message to_message(HttpResponse response) {
  msg::HttpResponse out{.status = static_cast<std::uint32_t>(response.status),
                        .body = std::move(response.body)};
  for (auto& [name, value] : response.headers) {
    out.headers.push_back(msg::HttpHeader{.name = std::move(name), .value = std::move(value)});
  }
  return reactor::message(std::move(out));
}

const Json* find(const Json& body, std::initializer_list<std::string_view> path) {
  const Json* at = &body;
  for (const auto key : path) {
    if (!at->is_object()) return nullptr;
    const auto found = at->find(std::string(key));
    if (found == at->end()) return nullptr;
    at = &*found;
  }
  return at;
}

}  // namespace

std::vector<front_door::Router<Rest::Handler>::Route> Rest::routes() {
  return {
      {"GET", VAULTS, "vaults.list", &Rest::list_vaults},
      {"GET", VAULT, "vaults.get", &Rest::get_vault},
      {"PUT", VAULT, "vaults.create", &Rest::put_vault},

      {"GET", VAULT "/replicationFabrics", "replicationFabrics.list", &Rest::list_fabrics},
      {"GET", FABRIC, "replicationFabrics.get", &Rest::get_fabric},
      {"GET", VAULT "/replicationRecoveryServicesProviders", "providers.list",
       &Rest::list_providers},
      {"GET", FABRIC "/replicationRecoveryServicesProviders", "providers.listByFabric",
       &Rest::list_providers},
      {"GET", FABRIC "/replicationRecoveryServicesProviders/{provider}", "providers.get",
       &Rest::get_provider},
      {"GET", VAULT "/replicationProtectionContainers", "containers.list", &Rest::list_containers},
      {"GET", FABRIC "/replicationProtectionContainers", "containers.listByFabric",
       &Rest::list_containers},
      {"GET", CLOUD, "containers.get", &Rest::get_container},
      {"GET", VAULT "/replicationNetworks", "networks.list", &Rest::list_networks},
      {"GET", FABRIC "/replicationNetworks", "networks.listByFabric", &Rest::list_networks},
      {"GET", FABRIC "/replicationNetworks/{network}", "networks.get", &Rest::get_network},
      {"GET", FABRIC "/replicationLogicalNetworks", "logicalNetworks.list",
       &Rest::list_logical_networks},
      {"GET", VAULT "/replicationStorageClassifications", "storage.list", &Rest::list_storage},
      {"GET", FABRIC "/replicationStorageClassifications", "storage.listByFabric",
       &Rest::list_storage},
      {"GET", STORAGE, "storage.get", &Rest::get_storage},
      {"GET", VAULT "/replicationStorageClassificationMappings", "storageMappings.list",
       &Rest::list_storage_mappings},
      {"GET", STORAGE_MAPPING, "storageMappings.listByClassification",
       &Rest::list_storage_mappings},
      {"GET", STORAGE_MAPPING "/{mapping}", "storageMappings.get", &Rest::get_storage_mapping},
      {"PUT", STORAGE_MAPPING "/{mapping}", "storageMappings.create", &Rest::put_storage_mapping},
      {"DELETE", STORAGE_MAPPING "/{mapping}", "storageMappings.delete",
       &Rest::delete_storage_mapping},
      {"GET", CLOUD "/replicationProtectableItems", "protectableItems.list",
       &Rest::list_protectable},
      {"GET", CLOUD "/replicationProtectableItems/{vm}", "protectableItems.get",
       &Rest::get_protectable},

      {"GET", VAULT "/replicationPolicies", "policies.list", &Rest::list_policies},
      {"GET", VAULT "/replicationPolicies/{policy}", "policies.get", &Rest::get_policy},
      {"PUT", VAULT "/replicationPolicies/{policy}", "policies.create", &Rest::put_policy},
      {"PATCH", VAULT "/replicationPolicies/{policy}", "policies.update", &Rest::put_policy},
      {"DELETE", VAULT "/replicationPolicies/{policy}", "policies.delete", &Rest::delete_policy},
      {"PUT", VAULT "/farside/policies/{policy}", "farside.policies.create",
       &Rest::put_farside_policy},

      {"GET", VAULT "/replicationProtectionContainerMappings", "containerMappings.list",
       &Rest::list_pairs},
      {"GET", CLOUD "/replicationProtectionContainerMappings", "containerMappings.listByContainer",
       &Rest::list_pairs},
      {"GET", CLOUD "/replicationProtectionContainerMappings/{pair}", "containerMappings.get",
       &Rest::get_pair},
      {"PUT", CLOUD "/replicationProtectionContainerMappings/{pair}", "containerMappings.create",
       &Rest::put_pair},
      {"DELETE", CLOUD "/replicationProtectionContainerMappings/{pair}", "containerMappings.purge",
       &Rest::delete_pair},
      {"POST", CLOUD "/replicationProtectionContainerMappings/{pair}/remove",
       "containerMappings.delete", &Rest::delete_pair},

      {"GET", VAULT "/replicationNetworkMappings", "networkMappings.list", &Rest::list_mappings},
      {"GET", MAPPING, "networkMappings.listByNetwork", &Rest::list_mappings},
      {"GET", MAPPING "/{mapping}", "networkMappings.get", &Rest::get_mapping},
      {"PUT", MAPPING "/{mapping}", "networkMappings.create", &Rest::put_mapping},
      {"PATCH", MAPPING "/{mapping}", "networkMappings.update", &Rest::put_mapping},
      {"DELETE", MAPPING "/{mapping}", "networkMappings.delete", &Rest::delete_mapping},

      {"GET", VAULT "/replicationProtectedItems", "protectedItems.list", &Rest::list_items},
      {"GET", CLOUD "/replicationProtectedItems", "protectedItems.listByContainer",
       &Rest::list_items},
      {"GET", ITEM, "protectedItems.get", &Rest::get_item},
      {"PUT", ITEM, "protectedItems.create", &Rest::put_item},
      {"POST", ITEM "/remove", "protectedItems.delete", &Rest::remove_item},
      {"DELETE", ITEM, "protectedItems.purge", &Rest::remove_item},
      {"POST", ITEM "/testFailover", "protectedItems.testFailover", &Rest::test_failover},
      {"POST", ITEM "/testFailoverCleanup", "protectedItems.testFailoverCleanup",
       &Rest::test_failover_cleanup},
      {"POST", ITEM "/plannedFailover", "protectedItems.plannedFailover", &Rest::planned_failover},
      {"POST", ITEM "/failoverCommit", "protectedItems.failoverCommit", &Rest::commit_failover},
      {"POST", ITEM "/repairReplication", "protectedItems.repairReplication",
       &Rest::repair_replication},
      {"POST", ITEM "/farside/pause", "farside.items.pause", &Rest::pause_item},
      {"POST", ITEM "/farside/resume", "farside.items.resume", &Rest::resume_item},
      {"POST", ITEM "/farside/retry", "farside.items.retry", &Rest::retry_item},
      {"POST", ITEM "/farside/resync", "farside.items.resync", &Rest::resync_item},
      {"GET", ITEM "/farside/plan", "farside.items.plan", &Rest::plan_item},
      {"GET", ITEM "/recoveryPoints", "recoveryPoints.list", &Rest::list_points},
      {"GET", ITEM "/recoveryPoints/{point}", "recoveryPoints.get", &Rest::get_point},

      {"GET", VAULT "/replicationJobs", "jobs.list", &Rest::list_jobs},
      {"GET", VAULT "/replicationJobs/{job}", "jobs.get", &Rest::get_job},
      {"POST", VAULT "/replicationJobs/{job}/cancel", "jobs.cancel", &Rest::cancel_job},
      {"POST", VAULT "/replicationJobs/{job}/restart", "jobs.restart", &Rest::restart_job},
      {"POST", VAULT "/replicationJobs/{job}/resume", "jobs.resume", &Rest::restart_job},
      {"GET", VAULT "/replicationOperationStatus/{job}", "operationStatus",
       &Rest::operation_status},
      {"GET", ITEM "/operationresults/{job}", "operationResults", &Rest::operation_result},

      {"GET", VAULT "/farside/registrationKeys", "farside.keys.list", &Rest::list_keys},
      {"POST", VAULT "/farside/registrationKeys", "farside.keys.create", &Rest::create_key},
      {"DELETE", VAULT "/farside/registrationKeys/{key}", "farside.keys.delete", &Rest::delete_key},
      {"GET", VAULT "/farside/identities", "farside.identities.list", &Rest::list_identities},
      {"DELETE", VAULT "/farside/identities/{principal}", "farside.identities.revoke",
       &Rest::revoke_identity},
      {"POST", VAULT "/farside/identities/{principal}/rotate", "farside.identities.rotate",
       &Rest::rotate_identity},
      {"GET", VAULT "/farside/hosts", "farside.hosts.list", &Rest::list_hosts},
  };
}

#undef VAULTS
#undef VAULT
#undef FABRIC
#undef CLOUD
#undef ITEM
#undef STORAGE
#undef STORAGE_MAPPING
#undef MAPPING

std::string Call::text(std::initializer_list<std::string_view> path) const {
  const auto* at = find(body, path);
  return at != nullptr && at->is_string() ? at->get<std::string>() : std::string{};
}

std::optional<std::int64_t> Call::number(std::initializer_list<std::string_view> path) const {
  const auto* at = find(body, path);
  if (at == nullptr || !at->is_number_integer()) return std::nullopt;
  return at->get<std::int64_t>();
}

Rest::Rest(VaultSettings settings, Catalog& catalog, JobDesk& desk, SettingsDesk& settings_desk,
           identity::Registrar& registrar)
    : settings_(std::move(settings)),
      catalog_(catalog),
      desk_(desk),
      settings_desk_(settings_desk),
      registrar_(registrar),
      router_(routes()) {}

Rest::~Rest() = default;

void Rest::on_request(const std::string& id, const msg::HttpRequest& http,
                      reactor::Effects& effects) {
  bool pending = false;
  auto answer = refuse_or_route(id, http, effects, pending);
  if (pending) return;
  auto& response = answer ? *answer : answer.error();
  response.headers.emplace_back("x-ms-request-id", effects.fresh_id());
  if (!http.client_request_id.empty()) {
    response.headers.emplace_back("x-ms-client-request-id", http.client_request_id);
  }
  effects.answer(id, to_message(std::move(response)));
}

std::expected<HttpResponse, HttpResponse> Rest::refuse_or_route(const std::string& id,
                                                                const msg::HttpRequest& http,
                                                                reactor::Effects& effects,
                                                                bool& pending) {
  const auto refuse = [](const Error& error) {
    return std::unexpected(front_door::arm_error(error));
  };
  // The front door has looked already; but it is here that things are done.
  if (!front_door::BearerToken(settings_.token_sha256).admits(http.authorization)) {
    return std::unexpected(front_door::unauthorized(http.authorization));
  }
  auto match = router_.match(http.method, http.path);
  if (!match) return std::unexpected(std::move(match.error()));
  const auto query = front_door::Query::parse(http.query);
  if (!query) return refuse(query.error());
  auto version = front_door::required_api_version(*query);
  if (!version) return std::unexpected(std::move(version.error()));

  const auto vault = match->values.find("v");
  if (vault != match->values.end() &&
      !front_door::equal_ignoring_case(vault->second, settings_.name)) {
    return refuse(Error{.code = ErrorCode::kNotFound,
                        .what = "no vault '" + vault->second + "' here",
                        .advice = "this is vault '" + settings_.name + "'"});
  }
  auto body = body_of(http);
  if (!body) return refuse(body.error());
  const auto vault_path = "/Subscriptions/" + front_door::percent_encoded(match->values.at("s")) +
                          "/resourceGroups/" + front_door::percent_encoded(match->values.at("g")) +
                          "/providers/Microsoft.RecoveryServices/vaults/" +
                          front_door::percent_encoded(settings_.name);
  Call call{.http = http,
            .id = id,
            .values = std::move(match->values),
            .body = std::move(*body),
            .vault_path = vault_path,
            .api_version = *version,
            .effects = effects};
  auto reply = (this->*(match->route->handler))(call);
  if (!reply) {
    log::info("request refused",
              {{"operation", match->route->operation}, {"cause", reply.error()}});
    return refuse(reply.error());
  }
  if (!*reply) {
    pending = true;
    return HttpResponse{};
  }
  return std::move(**reply);
}

// Asks a provider or agent before answering.
Reply Rest::ask(Call& call, const std::string& peer, const std::string& to, msg::Message body,
                Finish finish) {
  if (pending_.size() >= kPendingMax) {
    return fail(ErrorCode::kUnavailable, "too many requests wait for providers",
                "repeat this in a few seconds");
  }
  if (!catalog_.live.is_connected(peer)) {
    return fail(ErrorCode::kUnavailable, "'" + peer + "' is not connected",
                "check that it runs and reaches the vault");
  }
  const auto request = "rest/" + call.effects.fresh_id();
  pending_[request] = Pending{.http_id = call.id,
                              .finish = std::move(finish),
                              .until = call.effects.monotonic() + kPendingFor};
  call.effects.send(peer, msg::Envelope{.id = request,
                                        .from = call.effects.self(),
                                        .to = to,
                                        .reply = false,
                                        .body = std::move(body)});
  return std::nullopt;
}

void Rest::on_reply(const msg::Envelope& envelope, reactor::Effects& effects) {
  const auto found = pending_.find(envelope.id);
  if (found == pending_.end()) return;
  const auto pending = std::move(found->second);
  pending_.erase(found);
  if (const auto* refused = std::get_if<msg::Refused>(&envelope.body.value)) {
    effects.answer(pending.http_id,
                   to_message(front_door::arm_error(flow::to_error(refused->fault))));
    return;
  }
  auto reply = pending.finish(envelope.body, effects);
  effects.answer(
      pending.http_id,
      to_message(reply && *reply ? std::move(**reply)
                                 : front_door::arm_error(reply ? Error{} : reply.error())));
}

void Rest::tick(reactor::Effects& effects) {
  for (auto at = pending_.begin(); at != pending_.end();) {
    if (at->second.until > effects.monotonic()) {
      ++at;
      continue;
    }
    effects.answer(at->second.http_id,
                   to_message(front_door::arm_error(
                       Error{.code = ErrorCode::kTimeout,
                             .what = "the site did not answer in time",
                             .advice = "check its provider and agent, then ask again"})));
    at = pending_.erase(at);
  }
}

// 202 for a job on a protected item.
Result<HttpResponse> Rest::started(Call& call, const std::string& resource, msg::ProtectedItem item,
                                   JobDesk::Order order) {
  FARSIDE_ASSIGN(const auto job, desk_.start(std::move(item), std::move(order), call.effects));
  return front_door::accepted({.host = call.http.host,
                               .vault_path = call.vault_path,
                               .resource = resource,
                               .job = job,
                               .api_version = call.api_version});
}

}  // namespace farside::vault
