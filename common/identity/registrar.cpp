#include "common/identity/registrar.h"
#include "common/base/sha256.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "common/base/log.h"
#include "common/identity/key_file.h"

namespace farside::identity {
namespace {

constexpr std::string_view kRegistrantPrefix = "registrant/";

msg::Peer registrant(const msg::IssuedKey& key) {
  return msg::Peer{.principal = std::string(kRegistrantPrefix) + key.name,
                   .role = msg::Role::registrant,
                   .public_key = key.public_key,
                   .site = key.site};
}

// The principal that a key of this role and site, used under this name, stands for.
std::string principal_for(const msg::IssuedKey& key, const std::string& name) {
  switch (key.role) {
    case msg::Role::orchestrator:
      return "orchestrator";
    case msg::Role::provider:
      return "provider/" + key.site;
    case msg::Role::agent:
      return "agent/" + key.site + "/" + name;
    default:
      return {};
  }
}

}  // namespace

std::string neighbour_of(const std::string& principal) {
  constexpr std::string_view kAgent = "agent/";
  if (!principal.starts_with(kAgent)) return principal;
  const auto rest = principal.substr(kAgent.size());
  return "provider/" + rest.substr(0, rest.find('/'));
}

Status check_name(std::string_view what, std::string_view name) {
  const bool fine = !name.empty() && name.size() <= 63 &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
                    });
  if (fine) return {};
  return fail(ErrorCode::kInvalidArgument, fmt::format("{} '{}' is not a usable name", what, name),
              "use 1 to 63 letters, digits, '.', '_' or '-'");
}

void Registrar::start(reactor::Effects& effects) const {
  const auto known = identities(effects.store());
  const auto issued = keys(effects.store());
  if (!known || !issued) {
    log::error("identities unreadable", {{"cause", known ? issued.error() : known.error()}});
    return;
  }
  for (const auto& identity : *known) effects.set_peer(identity.peer);
  for (const auto& key : *issued) {
    if (key.expires_at > effects.now().micros) effects.set_peer(registrant(key));
  }
}

Result<msg::RegistrationKey> Registrar::issue(const NewKey& wanted,
                                              reactor::Effects& effects) const {
  FARSIDE_TRY(check_name("key name", wanted.name));
  if (wanted.role != msg::Role::orchestrator) FARSIDE_TRY(check_name("site", wanted.site));
  if (principal_for(msg::IssuedKey{.role = wanted.role, .site = wanted.site}, "x").empty()) {
    return fail(ErrorCode::kInvalidArgument, "keys exist for orchestrator, provider and agent only",
                "choose one of these roles");
  }
  if (wanted.valid <= std::chrono::hours{0} || wanted.valid > kKeyValidMax) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("a key cannot be valid for {} h", wanted.valid.count()),
                fmt::format("choose 1 to {} hours", kKeyValidMax.count()));
  }
  FARSIDE_ASSIGN(const auto present, keys(effects.store()));
  if (present.size() >= kKeysMax) {
    return fail(ErrorCode::kTooLarge, fmt::format("{} keys exist already", present.size()),
                "revoke those no longer needed");
  }
  if (std::ranges::any_of(present, [&](const auto& key) { return key.name == wanted.name; })) {
    return fail(ErrorCode::kAlreadyExists, "a key named '" + wanted.name + "' exists",
                "choose another name or revoke that key");
  }

  const auto one_time = issuer_.key_pair_from(effects.fresh_secret());
  const msg::RegistrationKey key{
      .name = wanted.name,
      .role = wanted.role,
      .site = wanted.site,
      .endpoint = issuer_.endpoint,
      .server_key = issuer_.public_key,
      .issuer = issuer_.principal,
      .secret = effects.fresh_secret(),
      .public_key = one_time.public_key,
      .secret_key = one_time.secret_key,
      .created_at = effects.now().micros,
      .expires_at = (effects.now() + wanted.valid).micros,
  };
  const msg::IssuedKey issued{.name = key.name,
                              .role = key.role,
                              .site = key.site,
                              .secret_hash = sha256_hex(key.secret),
                              .public_key = key.public_key,
                              .created_at = key.created_at,
                              .expires_at = key.expires_at};
  keys_.put(effects.writes, issued.name, issued);
  effects.set_peer(registrant(issued));
  return key;
}

Result<std::vector<msg::IssuedKey>> Registrar::keys(const store::Reader& store) const {
  FARSIDE_ASSIGN(auto rows, keys_.all(store));
  std::vector<msg::IssuedKey> out;
  for (auto& [name, key] : rows) out.push_back(std::move(key));
  return out;
}

Status Registrar::revoke_key(const std::string& name, reactor::Effects& effects) const {
  FARSIDE_ASSIGN(const auto key, keys_.get(effects.store(), name));
  if (!key) {
    return fail(ErrorCode::kNotFound, "no registration key '" + name + "'",
                "list them with `farside key list`");
  }
  keys_.erase(effects.writes, name);
  effects.remove_peer(registrant(*key).principal);
  return {};
}

Result<msg::Identity> Registrar::admit(const reactor::PeerId& peer, const msg::Register& wanted,
                                       reactor::Effects& effects) const {
  if (peer.role != msg::Role::registrant || !peer.principal.starts_with(kRegistrantPrefix)) {
    return fail(ErrorCode::kUnauthorized, "only the holder of a registration key may register",
                "this process is registered already");
  }
  const auto key_name = peer.principal.substr(kRegistrantPrefix.size());
  FARSIDE_ASSIGN(auto key, keys_.get(effects.store(), key_name));
  if (!key) {
    return fail(ErrorCode::kRevoked, "registration key '" + key_name + "' was revoked",
                "ask for a new one");
  }
  if (sha256_hex(wanted.secret) != key->secret_hash) {
    return fail(ErrorCode::kUnauthorized, "registration key '" + key_name + "': wrong secret",
                "use the key file as it was created");
  }
  if (key->used_at != 0 && key->used_by != wanted.public_key) {
    return fail(
        ErrorCode::kUnauthorized,
        "registration key '" + key_name + "' was used already, at " + to_iso(Time{key->used_at}),
        "create a new key; each admits one process, once");
  }
  if (key->used_at == 0 && key->expires_at <= effects.now().micros) {
    return fail(ErrorCode::kExpired,
                "registration key '" + key_name + "' expired at " + to_iso(Time{key->expires_at}),
                "create a new one");
  }
  if (key->role == msg::Role::agent) FARSIDE_TRY(check_name("host", wanted.name));

  const auto principal = principal_for(*key, wanted.name);
  FARSIDE_ASSIGN(const auto present, identities_.get(effects.store(), principal));
  if (present && !present->peer.revoked && present->peer.public_key != wanted.public_key) {
    return fail(ErrorCode::kAlreadyExists, "'" + principal + "' is registered with another key",
                "revoke that identity first if it was lost");
  }
  msg::Identity identity{.peer = msg::Peer{.principal = principal,
                                           .role = key->role,
                                           .public_key = wanted.public_key,
                                           .endpoint = wanted.endpoint,
                                           .revoked = false,
                                           .site = key->site},
                         .name = wanted.name,
                         .registered_at = effects.now().micros,
                         .version = wanted.version};
  if (present && present->peer.public_key == wanted.public_key) {
    identity.registered_at = present->registered_at;
    if (present->peer.revoked) {
      return fail(ErrorCode::kRevoked, "'" + principal + "' was revoked", "use a new key pair");
    }
  }
  if (key->used_at == 0) {
    key->used_at = effects.now().micros;
    key->used_by = wanted.public_key;
    keys_.put(effects.writes, key->name, *key);
    log::info("registered", {{"principal", principal}, {"key", key_name}});
  }
  identities_.put(effects.writes, principal, identity);
  effects.set_peer(identity.peer);
  return identity;
}

Result<std::vector<msg::Identity>> Registrar::identities(const store::Reader& store) const {
  FARSIDE_ASSIGN(auto rows, identities_.all(store));
  std::vector<msg::Identity> out;
  for (auto& [principal, identity] : rows) out.push_back(std::move(identity));
  return out;
}

Status Registrar::revoke(const std::string& principal, reactor::Effects& effects) const {
  FARSIDE_ASSIGN(auto identity, identities_.get(effects.store(), principal));
  if (!identity) {
    return fail(ErrorCode::kNotFound, "no identity '" + principal + "'",
                "list them with `farside identity list`");
  }
  identity->peer.revoked = true;
  identities_.put(effects.writes, principal, *identity);
  effects.set_peer(identity->peer);
  log::warn("identity revoked", {{"principal", principal}});
  return {};
}

}  // namespace farside::identity
