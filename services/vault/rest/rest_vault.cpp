// The vault itself, its registration keys and the identities it admitted.
#include <algorithm>
#include <set>

#include "common/flow/step.h"
#include "common/identity/key_file.h"
#include "services/vault/front_door/arm_errors.h"
#include "services/vault/item_health.h"
#include "services/vault/rest/json.h"

namespace farside::vault {
namespace {

Json vault_json(const Call& call, const std::string& name) {
  return Json{{"id", call.vault_path},
              {"name", name},
              {"type", "Microsoft.RecoveryServices/vaults"},
              {"location", "onprem"},
              {"sku", {{"name", "RS0"}, {"tier", "Standard"}}},
              {"properties", {{"provisioningState", "Succeeded"}}}};
}

constexpr std::size_t kReasonsMax = 100;

// How well everything is that the vault keeps; the worst of it, at most kReasonsMax.
Json health_json(const VaultHealth& health) {
  Json reasons = Json::array();
  for (const auto& one : health.reasons) {
    if (reasons.size() >= kReasonsMax) break;
    reasons.push_back(Json{{"item", one.item},
                           {"vm", one.vm},
                           {"reason", to_text(one.reason.kind)},
                           {"errorLevel", one.reason.is_critical ? "Error" : "Warning"},
                           {"message", one.reason.fault.what},
                           {"advice", advice_of(flow::to_error(one.reason.fault))}});
  }
  return Json{{"health", health_text(health.health)},
              {"reasonCount", health.reasons.size()},
              {"reasons", std::move(reasons)}};
}

Json key_json(const msg::RegistrationKey& key) {
  return Json{{"name", key.name},
              {"role", msg::to_text(key.role)},
              {"site", key.site},
              {"host", key.host},
              {"key", identity::to_toml(key)},
              {"expiresAt", arm_time(key.expires_at)}};
}

}  // namespace

Reply Rest::get_vault(Call& call) {
  FARSIDE_ASSIGN(const auto items, Catalog::rows(catalog_.items, call.effects.store()));
  auto body = vault_json(call, settings_.name);
  body["properties"]["farside"] = health_json(health_of(items, catalog_.live));
  return ok(body);
}

Reply Rest::put_vault(Call& call) {
  return ok(vault_json(call, settings_.name));
}

Reply Rest::list_vaults(Call& call) {
  return listing(Json::array({vault_json(call, settings_.name)}));
}

Reply Rest::list_keys(Call& call) {
  FARSIDE_ASSIGN(const auto keys, registrar_.keys(call.effects.store()));
  Json out = Json::array();
  for (const auto& key : keys) {
    out.push_back(Json{{"name", key.name},
                       {"role", msg::to_text(key.role)},
                       {"site", key.site},
                       {"createdAt", arm_time(key.created_at)},
                       {"expiresAt", arm_time(key.expires_at)},
                       {"usedAt", key.used_at == 0 ? Json(nullptr) : Json(arm_time(key.used_at))}});
  }
  return listing(std::move(out));
}

Reply Rest::create_key(Call& call) {
  const auto role = msg::enum_from_text<msg::Role>(call.text({"role"}));
  if (!role) {
    return fail(ErrorCode::kInvalidArgument, "no role '" + call.text({"role"}) + "'",
                "send role orchestrator, provider or agent");
  }
  const auto site = call.text({"site"});
  const auto hours = call.number({"validHours"}).value_or(24);
  auto name = call.text({"name"});
  if (*role == msg::Role::agent) {
    if (name.empty()) {
      return fail(ErrorCode::kInvalidArgument, "a token for an agent needs its host's name",
                  "send name");
    }
    return ask(call, "provider/" + site, "provider/" + site,
               reactor::message(msg::IssueToken{.name = name,
                                                .valid_hours = static_cast<std::uint32_t>(
                                                    std::clamp<std::int64_t>(hours, 0, 1'000)),
                                                .host = name}),
               [](const msg::Message& reply, reactor::Effects&) -> Reply {
                 FARSIDE_ASSIGN(const auto issued, flow::expect<msg::TokenIssued>(reply));
                 return ok(key_json(issued.key), 201);
               });
  }
  if (name.empty()) name = std::string(msg::to_text(*role)) + (site.empty() ? "" : "-" + site);
  FARSIDE_ASSIGN(
      const auto key,
      registrar_.issue(
          {.name = name, .role = *role, .site = site, .valid = std::chrono::hours{hours}},
          call.effects));
  return ok(key_json(key), 201);
}

Reply Rest::delete_key(Call& call) {
  FARSIDE_TRY(registrar_.revoke_key(call["key"], call.effects));
  return no_content();
}

Reply Rest::list_identities(Call& call) {
  FARSIDE_ASSIGN(const auto identities, registrar_.identities(call.effects.store()));
  Json out = Json::array();
  for (const auto& identity : identities) {
    out.push_back(Json{{"principal", identity.peer.principal},
                       {"role", msg::to_text(identity.peer.role)},
                       {"site", identity.peer.site},
                       {"name", identity.name},
                       {"publicKey", identity.peer.public_key},
                       {"registeredAt", arm_time(identity.registered_at)},
                       {"revoked", identity.peer.revoked},
                       {"connected", catalog_.live.is_connected(identity.peer.principal)}});
  }
  // Agents are admitted by the provider of their site, which reports those it has heard of.
  FARSIDE_ASSIGN(const auto sites, Catalog::rows(catalog_.inventories, call.effects.store()));
  std::set<std::string> shown;
  for (const auto& site : sites) {
    for (const auto& host : site.hosts) {
      shown.insert(host.principal);
      out.push_back(Json{{"principal", host.principal},
                         {"role", msg::to_text(msg::Role::agent)},
                         {"site", site.site},
                         {"name", host.host.name},
                         {"publicKey", host.host.public_key},
                         {"registeredAt", nullptr},
                         {"revoked", settings_desk_.is_revoked(host.principal)},
                         {"connected", catalog_.live.is_connected(host.principal)}});
    }
  }
  // Those that were revoked are in no inventory any more.
  FARSIDE_ASSIGN(const auto revoked, Catalog::rows(catalog_.revoked, call.effects.store()));
  for (const auto& one : revoked) {
    if (shown.contains(one.principal)) continue;
    out.push_back(Json{{"principal", one.principal},
                       {"role", msg::to_text(msg::Role::agent)},
                       {"site", identity::site_of(one.principal)},
                       {"name", one.principal.substr(one.principal.rfind('/') + 1)},
                       {"publicKey", one.public_key},
                       {"registeredAt", nullptr},
                       {"revoked", true},
                       {"connected", false}});
  }
  return listing(std::move(out));
}

Reply Rest::revoke_identity(Call& call) {
  const auto principal = call["principal"];
  std::string note;
  if (principal.starts_with("agent/")) {
    const auto provider = identity::neighbour_of(principal);
    FARSIDE_ASSIGN(const bool is_known, settings_desk_.revoke(principal, call.effects));
    if (!is_known) {
      note =
          "no host of that name is in its site's inventory: check the spelling; it is shut out "
          "should it come, and nobody else is. ";
    }
    if (!catalog_.live.is_connected(provider)) {
      note += "'" + provider + "' is away: it is told as soon as it is back, and may let '" +
              principal + "' in until then; whoever replicates with it is told now";
    }
  } else {
    FARSIDE_ASSIGN(const auto identities, registrar_.identities(call.effects.store()));
    FARSIDE_TRY(registrar_.revoke(principal, "", call.effects));
    const auto known = std::ranges::find_if(
        identities, [&](const auto& one) { return one.peer.principal == principal; });
    if (known != identities.end() && known->peer.role == msg::Role::provider) {
      settings_desk_.revoke_site(known->peer.site, call.effects);
      note = "no agent of site '" + known->peer.site +
             "' is trusted any more: whoever replicates with one is told now";
    }
  }
  return ok(Json{{"principal", principal}, {"revoked", true}, {"note", note}});
}

// Answered once the process has begun: its new key shows in the list of identities.
Reply Rest::rotate_identity(Call& call) {
  const auto principal = call["principal"];
  if (principal != "orchestrator" && !principal.starts_with("agent/")) {
    return fail(ErrorCode::kUnsupported, "'" + principal + "' is known to others by its key",
                principal.starts_with("provider/")
                    ? "if its key may be known to others, revoke it, register it anew, and give "
                      "its agents new keys"
                    : "keys of agents and of the orchestrator can be rotated");
  }
  if (settings_desk_.is_revoked(principal)) {
    return fail(ErrorCode::kRevoked, "'" + principal + "' is revoked",
                "register it anew with `farside key create`");
  }
  return ask(call, identity::neighbour_of(principal), principal,
             reactor::message(msg::RotateIdentity{.principal = principal}),
             [principal](const msg::Message& reply, reactor::Effects&) -> Reply {
               FARSIDE_ASSIGN(const auto begun, flow::expect<msg::RotationBegun>(reply));
               return ok(Json{{"principal", principal}, {"publicKey", begun.public_key}});
             });
}

Reply Rest::list_hosts(Call& call) {
  FARSIDE_ASSIGN(const auto sites, Catalog::rows(catalog_.inventories, call.effects.store()));
  const auto& key_problems = catalog_.live.key_problems;
  Json out = Json::array();
  for (const auto& site : sites) {
    for (const auto& entry : site.hosts) {
      const auto& host = entry.host;
      auto problem = host.problem;
      if (const auto key = key_problems.find(entry.principal); key != key_problems.end()) {
        problem += (problem.empty() ? "" : "; ") + key->second;
      }
      Json storage = Json::array();
      for (const auto& path : host.storage) {
        storage.push_back(Json{
            {"path", path.path}, {"totalBytes", path.total_bytes}, {"freeBytes", path.free_bytes}});
      }
      out.push_back(Json{{"name", host.name},
                         {"site", site.site},
                         {"principal", entry.principal},
                         {"connected", catalog_.live.is_connected(entry.principal)},
                         {"silentSince", arm_time(entry.silent_since)},
                         {"platform", host.platform},
                         {"platformVersion", host.platform_version},
                         {"agentVersion", host.agent_version},
                         {"processors", host.processors},
                         {"memoryMib", host.memory_mib},
                         {"memoryFreeMib", host.memory_free_mib},
                         {"networks", host.networks},
                         {"problem", problem},
                         {"storage", std::move(storage)},
                         {"virtualMachines", entry.vms.size()}});
    }
  }
  return listing(std::move(out));
}

}  // namespace farside::vault
