#include "common/identity/registrar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <limits>

#include "common/base/assert.h"
#include "common/base/endpoint.h"
#include "common/base/log.h"
#include "common/base/sha256.h"

namespace farside::identity {
namespace {

constexpr std::string_view kRegistrantPrefix = "registrant/";
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

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

bool is_spent(const msg::IssuedKey& key, Time now) {
  return key.closed_at != 0 || key.expires_at <= now.micros;
}

bool has_had(const msg::Identity& identity, const std::string& public_key) {
  return std::ranges::find(identity.earlier_keys, public_key) != identity.earlier_keys.end();
}

// What was said when the key was used, word for word.
bool is_repeated(const msg::IssuedKey& key, const msg::Register& wanted) {
  return key.used_by == wanted.public_key && key.used_as == wanted.name &&
         key.used_from == wanted.endpoint;
}

}  // namespace

std::string neighbour_of(const std::string& principal) {
  constexpr std::string_view kAgent = "agent/";
  if (!principal.starts_with(kAgent)) return principal;
  const auto rest = principal.substr(kAgent.size());
  return "provider/" + rest.substr(0, rest.find('/'));
}

std::string site_of(const std::string& principal) {
  const auto provider = neighbour_of(principal);
  return provider.substr(provider.find('/') + 1);
}

std::string host_of(const std::string& agent) {
  return agent.substr(agent.rfind('/') + 1);
}

bool is_agent_of(const std::string& principal, const std::string& site) {
  const auto prefix = "agent/" + site + "/";
  return principal.starts_with(prefix) &&
         check_name("host", std::string_view(principal).substr(prefix.size())).has_value();
}

Status check_name(std::string_view what, std::string_view name) {
  const bool fine = !name.empty() && name.size() <= 63 && name != "." && name != ".." &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
                    });
  if (fine) return {};
  return fail(ErrorCode::kInvalidArgument, fmt::format("{} '{}' is not a usable name", what, name),
              "use 1 to 63 letters, digits, '.', '_' or '-'");
}

namespace {

// Shown to operators; of any release there will be.
Status check_version(std::string_view version) {
  const bool fine = version.size() <= 64 && std::all_of(version.begin(), version.end(),
                                                        [](char c) { return c > ' ' && c <= '~'; });
  if (fine) return {};
  return fail(ErrorCode::kInvalidArgument, "the version of whoever registers is no version",
              "it must be a Farside service that registers");
}

}  // namespace

std::string registration_statement(const std::string& one_time_secret) {
  return "farside register " + one_time_secret;
}

msg::Peer registrant(const msg::IssuedKey& key) {
  return msg::Peer{.principal = std::string(kRegistrantPrefix) + key.name,
                   .role = msg::Role::registrant,
                   .public_key = key.public_key,
                   .site = key.site};
}

void Registrar::start(reactor::Effects& effects) {
  const auto known = identities(effects.store());
  const auto issued = keys(effects.store());
  if (!known || !issued) {
    log::error("identities unreadable", {{"cause", known ? issued.error() : known.error()}});
    return;
  }
  for (const auto& identity : *known) {
    effects.set_peer(identity.peer);
    if (!identity.next_key.empty()) effects.set_peer(successor(identity));
  }
  awaited_.clear();
  tend_at_ = 0;
  for (const auto& key : *issued) {
    if (is_spent(key, effects.now())) continue;
    effects.set_peer(registrant(key));
    if (key.used_at == 0) continue;
    for (const auto& identity : *known) {
      if (identity.peer.public_key == key.used_by) awaited_[identity.peer.principal] = key.name;
    }
  }
}

bool Registrar::tend(reactor::Effects& effects) {
  const auto now = effects.now();
  if (now.micros < tend_at_) return false;
  const auto known = identities(effects.store());
  const auto issued = keys(effects.store());
  if (!known || !issued) return false;
  tend_at_ = kNever;
  for (const auto& key : *issued) {
    const auto gone_at = (Time{key.expires_at} + kSpentKeyKept).micros;
    if (gone_at <= now.micros) {
      keys_.erase(effects.writes, key.name);
      effects.remove_peer(registrant(key).principal);
    } else if (key.closed_at == 0 && is_spent(key, now)) {
      close(key, effects);
    }
    tend_by(key.closed_at == 0 && !is_spent(key, now) ? key.expires_at : gone_at);
  }
  bool has_changed = false;
  for (const auto& identity : *known) {
    if (identity.next_key.empty()) continue;
    const auto until = (Time{identity.rotated_at} + kBothKeysFor).micros;
    if (until > now.micros) {
      tend_by(until);
    } else {
      // Whoever still comes with the present key never took the next one.
      if (heard_meanwhile_.contains(identity.peer.principal)) {
        drop_next(identity, effects);
      } else {
        promote(identity, effects);
      }
      has_changed = true;
    }
  }
  return has_changed;
}

bool Registrar::heard(const reactor::PeerId& peer, reactor::Effects& effects) {
  if (peer.role == msg::Role::registrant) {
    const auto known = identities(effects.store());
    if (!known) return false;
    for (const auto& identity : *known) {
      if (identity.next_key.empty() || successor(identity).principal != peer.principal) continue;
      promote(identity, effects);
      return true;
    }
    return false;
  }
  heard_meanwhile_.insert(peer.principal);
  close_awaited(peer.principal, effects);
  return false;
}

void Registrar::close_awaited(const std::string& principal, reactor::Effects& effects) {
  const auto awaited = awaited_.find(principal);
  if (awaited == awaited_.end()) return;
  const auto key = keys_.get(effects.store(), awaited->second);
  awaited_.erase(awaited);
  if (key && *key) close(**key, effects);
}

void Registrar::close(msg::IssuedKey key, reactor::Effects& effects) {
  std::erase_if(awaited_, [&](const auto& one) { return one.second == key.name; });
  key.closed_at = effects.now().micros;
  keys_.put(effects.writes, key.name, key);
  effects.remove_peer(registrant(key).principal);
}

Result<msg::RegistrationKey> Registrar::issue(const NewKey& wanted, reactor::Effects& effects) {
  FARSIDE_TRY(check_name("key name", wanted.name));
  if (!wanted.host.empty()) FARSIDE_TRY(check_name("host", wanted.host));
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
  const auto earlier = std::ranges::find(present, wanted.name, &msg::IssuedKey::name);
  if (earlier == present.end() && present.size() >= kKeysMax) {
    return fail(ErrorCode::kTooLarge, fmt::format("{} keys exist already", present.size()),
                "revoke those no longer needed");
  }
  if (earlier != present.end()) {
    const bool may_go =
        is_spent(*earlier, effects.now()) || (wanted.replaces_unused && earlier->used_at == 0);
    if (!may_go) {
      return fail(ErrorCode::kAlreadyExists, "a key named '" + wanted.name + "' exists",
                  "choose another name or revoke that key");
    }
    effects.remove_peer(registrant(*earlier).principal);
    std::erase_if(awaited_, [&](const auto& one) { return one.second == wanted.name; });
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
      .host = wanted.host,
  };
  const msg::IssuedKey issued{.name = key.name,
                              .role = key.role,
                              .site = key.site,
                              .secret_hash = sha256_hex(key.secret),
                              .public_key = key.public_key,
                              .created_at = key.created_at,
                              .expires_at = key.expires_at,
                              .host = key.host};
  keys_.put(effects.writes, issued.name, issued);
  effects.set_peer(registrant(issued));
  tend_by(issued.expires_at);
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

// Whether the key may admit whoever asks for it so.
Status Registrar::check_use(const msg::IssuedKey& key, const msg::Register& wanted,
                            Time now) const {
  if (sha256_hex(wanted.secret) != key.secret_hash) {
    return fail(ErrorCode::kUnauthorized, "registration key '" + key.name + "': wrong secret",
                "use the key file as it was created");
  }
  if (key.used_at != 0 && (key.closed_at != 0 || !is_repeated(key, wanted))) {
    return fail(
        ErrorCode::kUnauthorized,
        "registration key '" + key.name + "' was used already, at " + to_iso(Time{key.used_at}),
        "create a new key; each admits one process, once");
  }
  if (is_spent(key, now)) {
    return fail(ErrorCode::kExpired,
                "registration key '" + key.name + "' expired at " + to_iso(Time{key.expires_at}),
                "create a new one");
  }
  const bool is_agent = key.role == msg::Role::agent;
  FARSIDE_TRY(check_name(is_agent ? "host" : "name", wanted.name));
  if (!is_agent || key.host.empty() || key.host == wanted.name) return {};
  return fail(ErrorCode::kForbidden,
              "registration key '" + key.name + "' admits the agent of host '" + key.host +
                  "', not of '" + wanted.name + "'",
              "set name = '" + key.host +
                  "' in the agent's configuration, or create a key with `farside key create "
                  "--role agent --name " +
                  wanted.name + "`");
}

Status Registrar::check_unique(const std::string& public_key, const std::string& principal,
                               const store::Reader& store) const {
  const auto taken = [&](const std::string& by) {
    return fail(ErrorCode::kConflict,
                "the public key of '" + principal + "' is that of '" + by + "' already",
                "an identity file was copied: delete identity.key in the data folder of the copy, "
                "and start it again to get another");
  };
  if (public_key == issuer_.public_key) return taken(issuer_.principal);
  FARSIDE_ASSIGN(const auto known, identities(store));
  for (const auto& identity : known) {
    const bool has_it = identity.peer.public_key == public_key || identity.next_key == public_key ||
                        has_had(identity, public_key);
    if (has_it && identity.peer.principal != principal) return taken(identity.peer.principal);
  }
  FARSIDE_ASSIGN(const auto issued, keys(store));
  for (const auto& key : issued) {
    if (key.public_key == public_key) return taken(registrant(key).principal);
  }
  return {};
}

// A registration whose answer may have been lost.
Result<msg::Identity> Registrar::again(const std::string& principal, const msg::Register& wanted,
                                       const store::Reader& store) const {
  FARSIDE_ASSIGN(auto present, identities_.get(store, principal));
  if (present && !present->peer.revoked && present->peer.public_key == wanted.public_key) {
    return std::move(*present);
  }
  return fail(ErrorCode::kRevoked, "'" + principal + "' was revoked",
              "create a new key, and use a new key pair");
}

Result<msg::Identity> Registrar::admit(const reactor::PeerId& peer, const msg::Register& wanted,
                                       reactor::Effects& effects) {
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
  FARSIDE_TRY(check_use(*key, wanted, effects.now()));
  FARSIDE_TRY(check_version(wanted.version));
  const auto principal = principal_for(*key, wanted.name);
  if (key->used_at != 0) return again(principal, wanted, effects.store());
  if (!wanted.endpoint.empty()) FARSIDE_TRY(check_endpoint(wanted.endpoint));

  FARSIDE_ASSERT(issuer_.open_proof != nullptr);
  FARSIDE_TRY(issuer_.open_proof({.public_key = wanted.public_key,
                                  .proof = wanted.proof,
                                  .statement = registration_statement(wanted.secret)}));
  FARSIDE_TRY(check_unique(wanted.public_key, principal, effects.store()));
  FARSIDE_ASSIGN(const auto present, identities_.get(effects.store(), principal));
  const bool has_same_key = present && present->peer.public_key == wanted.public_key;
  if (present && !present->peer.revoked && !has_same_key) {
    return fail(ErrorCode::kAlreadyExists, "'" + principal + "' is registered with another key",
                "revoke that identity first if it was lost");
  }
  if (present && has_had(*present, wanted.public_key)) {
    return fail(ErrorCode::kRevoked, "'" + principal + "' had that key before it had another",
                "use a new key pair: delete identity.key in its data folder and start it again");
  }
  if (has_same_key && present->peer.revoked) {
    return fail(ErrorCode::kRevoked, "'" + principal + "' was revoked",
                "use a new key pair: delete identity.key in its data folder and start it again");
  }
  const msg::Identity identity{
      .peer = msg::Peer{.principal = principal,
                        .role = key->role,
                        .public_key = wanted.public_key,
                        .endpoint = wanted.endpoint,
                        .revoked = false,
                        .site = key->site},
      .name = wanted.name,
      .registered_at = has_same_key ? present->registered_at : effects.now().micros,
      .version = wanted.version};
  key->used_at = effects.now().micros;
  key->used_by = wanted.public_key;
  key->used_as = wanted.name;
  key->used_from = wanted.endpoint;
  keys_.put(effects.writes, key->name, *key);
  identities_.put(effects.writes, principal, identity);
  if (present && !present->next_key.empty()) effects.remove_peer(successor(*present).principal);
  effects.set_peer(identity.peer);
  awaited_[principal] = key->name;
  log::info("registered", {{"principal", principal}, {"key", key_name}});
  return identity;
}

Result<std::vector<msg::Identity>> Registrar::identities(const store::Reader& store) const {
  FARSIDE_ASSIGN(auto rows, identities_.all(store));
  std::vector<msg::Identity> out;
  for (auto& [principal, identity] : rows) out.push_back(std::move(identity));
  return out;
}

Result<std::optional<msg::Identity>> Registrar::admitted(const store::Reader& store,
                                                         const std::string& principal) const {
  FARSIDE_ASSIGN(auto identity, identities_.get(store, principal));
  if (identity && identity->peer.revoked) identity.reset();
  return identity;
}

Result<std::string> Registrar::revoke(const std::string& principal, const std::string& public_key,
                                      reactor::Effects& effects) {
  FARSIDE_ASSIGN(auto identity, identities_.get(effects.store(), principal));
  if (!identity) {
    return fail(ErrorCode::kNotFound, "no identity '" + principal + "'",
                "list them with `farside identity list`");
  }
  const auto present = identity->peer.public_key;
  const bool is_meant = public_key.empty() || public_key == present ||
                        public_key == identity->next_key || has_had(*identity, public_key);
  if (!is_meant) return public_key;
  if (!identity->next_key.empty()) {
    effects.remove_peer(successor(*identity).principal);
    identity->next_key.clear();
  }
  identity->peer.revoked = true;
  identities_.put(effects.writes, principal, *identity);
  effects.set_peer(identity->peer);
  close_awaited(principal, effects);
  log::warn("identity revoked", {{"principal", principal}});
  return present;
}

}  // namespace farside::identity
