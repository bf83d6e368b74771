// The REST API: Azure Resource Manager shapes over the catalog.
//
// A request is answered in the turn that brought it, or, where a provider or agent has to be
// asked first, when its reply comes (or kPendingFor has passed).
// Thread: the reactor's.  The shapes are described in docs/data.md, "REST".
#pragma once

#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "common/identity/registrar.h"
#include "common/reactor/effects.h"
#include "services/vault/catalog.h"
#include "services/vault/front_door/http.h"
#include "services/vault/front_door/router.h"
#include "services/vault/job_desk.h"
#include "services/vault/settings_desk.h"

namespace farside::vault {

using Json = nlohmann::ordered_json;
using front_door::HttpResponse;
using front_door::PathValues;

struct VaultSettings {
  std::string name = "farside";  // The {vault} of every path.
  std::string token_sha256;      // Of the operator's bearer token.
};

inline constexpr std::chrono::seconds kPendingFor{10};
inline constexpr std::size_t kPendingMax = 256;  // Beyond: 503.

// One request being answered.
struct Call {
  const msg::HttpRequest& http;
  const std::string& id;  // For a later answer.
  PathValues values;
  Json body;               // null if there was none.
  std::string vault_path;  // "/Subscriptions/…/vaults/farside"
  std::string api_version;
  reactor::Effects& effects;

  const std::string& operator[](const std::string& value) const { return values.at(value); }
  // A text of the body by its path, "" if it is not there: text("properties", "policyId").
  std::string text(std::initializer_list<std::string_view> path) const;
  std::optional<std::int64_t> number(std::initializer_list<std::string_view> path) const;
};

// nullopt: answered later.
using Reply = Result<std::optional<HttpResponse>>;

class Rest final {
 public:
  Rest(VaultSettings settings, Catalog& catalog, JobDesk& desk, SettingsDesk& settings_desk,
       identity::Registrar& registrar);
  ~Rest();

  void on_request(const std::string& id, const msg::HttpRequest& http, reactor::Effects& effects);
  void on_reply(const msg::Envelope& envelope, reactor::Effects& effects);
  void tick(reactor::Effects& effects);  // Ends requests that waited too long.

 private:
  using Handler = Reply (Rest::*)(Call&);
  static std::vector<front_door::Router<Handler>::Route> routes();

  std::expected<HttpResponse, HttpResponse> refuse_or_route(const std::string& id,
                                                            const msg::HttpRequest& http,
                                                            reactor::Effects& effects,
                                                            bool& pending);
  using Finish = std::function<Reply(const msg::Message& reply, reactor::Effects& effects)>;
  Reply ask(Call& call, const std::string& peer, const std::string& to, msg::Message body,
            Finish finish);
  Result<HttpResponse> started(Call& call, const std::string& resource, msg::ProtectedItem item,
                               JobDesk::Order order);

  // rest_vault.cpp
  Reply get_vault(Call& call);
  Reply put_vault(Call& call);
  Reply list_vaults(Call& call);
  Reply list_keys(Call& call);
  Reply create_key(Call& call);
  Reply delete_key(Call& call);
  Reply list_identities(Call& call);
  Reply revoke_identity(Call& call);
  Reply rotate_identity(Call& call);
  Reply list_hosts(Call& call);

  // rest_sites.cpp
  Reply list_fabrics(Call& call);
  Reply get_fabric(Call& call);
  Reply list_providers(Call& call);
  Reply get_provider(Call& call);
  Reply list_containers(Call& call);
  Reply get_container(Call& call);
  Reply list_networks(Call& call);
  Reply get_network(Call& call);
  Reply list_logical_networks(Call& call);
  Reply list_storage(Call& call);
  Reply get_storage(Call& call);
  Reply list_protectable(Call& call);
  Reply get_protectable(Call& call);

  // rest_config.cpp
  Reply list_policies(Call& call);
  Reply get_policy(Call& call);
  Reply put_policy(Call& call);
  Reply put_farside_policy(Call& call);
  Reply delete_policy(Call& call);
  Reply save_policy(Call& call, const msg::Policy& policy);
  Reply list_pairs(Call& call);
  Reply get_pair(Call& call);
  Reply put_pair(Call& call);
  Reply delete_pair(Call& call);
  Reply list_mappings(Call& call);
  Reply get_mapping(Call& call);
  Reply put_mapping(Call& call);
  Reply delete_mapping(Call& call);
  Reply list_storage_mappings(Call& call);
  Reply get_storage_mapping(Call& call);
  Reply put_storage_mapping(Call& call);
  Reply delete_storage_mapping(Call& call);

  // rest_items.cpp
  Reply list_items(Call& call);
  Reply get_item(Call& call);
  Reply put_item(Call& call);
  Reply remove_item(Call& call);
  Reply test_failover(Call& call);
  Reply test_failover_cleanup(Call& call);
  Reply planned_failover(Call& call);
  Reply commit_failover(Call& call);
  Reply repair_replication(Call& call);
  Reply pause_item(Call& call);
  Reply resume_item(Call& call);
  Reply retry_item(Call& call);
  Reply resync_item(Call& call);
  Reply ask_for_delta(Call& call, bool compare);
  Reply plan_item(Call& call);
  Reply list_points(Call& call);
  Reply get_point(Call& call);
  Result<msg::ProtectedItem> item_of(Call& call) const;
  Json item_json(const Call& call, const msg::ProtectedItem& item) const;

  // rest_jobs.cpp
  Reply list_jobs(Call& call);
  Reply get_job(Call& call);
  Reply cancel_job(Call& call);
  Reply restart_job(Call& call);
  Reply operation_status(Call& call);
  Reply operation_result(Call& call);
  Json job_json(const Call& call, const msg::JobRecord& job) const;
  Result<msg::JobRecord> job_of(Call& call) const;

  struct Pending {
    std::string http_id;
    Finish finish;
    Micros until{};
  };

  VaultSettings settings_;
  Catalog& catalog_;
  JobDesk& desk_;
  SettingsDesk& settings_desk_;
  identity::Registrar& registrar_;
  front_door::Router<Handler> router_;
  std::map<std::string, Pending> pending_;  // By request id.
};

}  // namespace farside::vault
