#include "common/shell/member.h"

#include <filesystem>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "common/flow/step.h"
#include "common/identity/key_file.h"
#include "common/identity/membership.h"
#include "common/identity/registrar.h"
#include "common/shell/issuer_call.h"
#include "common/shell/join.h"
#include "common/shell/key_proof.h"
#include "common/shell/knock.h"

namespace farside::shell {
namespace {

constexpr std::chrono::seconds kRejoinPatience{10};  // Fences wait for the start to end.
constexpr std::chrono::seconds kRotationPatience{30};

std::string principal_of(const msg::RegistrationKey& key, const std::string& name) {
  if (key.role == msg::Role::agent) return "agent/" + key.site + "/" + name;
  if (key.role == msg::Role::provider) return "provider/" + key.site;
  return "orchestrator";
}

}  // namespace

msg::Peer issuer_of(const msg::Registered& registered) {
  const bool is_agent = registered.principal.starts_with("agent/");
  const auto principal = is_agent ? "provider/" + registered.site : std::string("vault");
  for (const auto& peer : registered.peers) {
    if (peer.principal == principal) return peer;
  }
  return {.principal = principal};
}

Result<std::unique_ptr<Member>> Member::open(Parts parts) {
  auto member = std::unique_ptr<Member>(new Member(std::move(parts)));
  FARSIDE_ASSIGN(member->keys_, bus::load_or_create_keys(member->path()));
  FARSIDE_TRY(member->settle());
  return member;
}

// A rotation that did not get to its end: the issuer knows which key counts.
Status Member::settle() {
  std::error_code ec;
  if (!std::filesystem::exists(next_path(), ec)) return {};
  FARSIDE_ASSIGN(const auto next, bus::load_keys(next_path()));
  FARSIDE_ASSIGN(auto stored, identity::Membership::load(parts_.store));
  if (stored && stored->public_key == next.public_key) return take(next, std::move(*stored));
  const auto issuer = stored ? issuer_of(*stored) : msg::Peer{};
  const auto seen =
      issuer.endpoint.empty() ? Knock::kRefused : knock(next, issuer.endpoint, issuer.public_key);
  if (seen == Knock::kLetIn) return take(next, std::move(*stored));
  if (seen != Knock::kRefused) {
    log::warn("rotation not ended", {{"cause", issuer.principal + " does not answer"},
                                     {"next", "it is looked at again with the next start"}});
    return {};
  }
  // An issuer that has only just begun to listen refuses everybody: only one that lets the present
  // key in has judged the next one.
  if (!issuer.endpoint.empty() &&
      knock(keys_, issuer.endpoint, issuer.public_key) != Knock::kLetIn) {
    log::warn("rotation not ended", {{"cause", issuer.principal + " lets neither key in"},
                                     {"next", "it is looked at again with the next start"}});
    return {};
  }
  std::filesystem::remove(next_path(), ec);
  log::warn("rotation given up", {{"cause", "the new key was never agreed on"}});
  return {};
}

// The membership first: with it, a crash before the rename is settled without asking anybody.
Status Member::take(const bus::CurveKeys& next, msg::Registered registered) {
  registered.public_key = next.public_key;
  store::Batch batch;
  identity::Membership::save(batch, registered);
  FARSIDE_TRY(parts_.store.commit(batch));
  std::error_code ec;
  std::filesystem::rename(next_path(), path(), ec);
  if (ec) {
    return fail(ErrorCode::kIo, "rename '" + next_path() + "' to '" + path() + "': " + ec.message(),
                "check that the folder belongs to this user, then start again");
  }
  FARSIDE_TRY(sync_folder(parts_.data_dir));
  keys_ = next;
  log::info("identity rotated", {{"public_key", keys_.public_key}});
  return {};
}

Result<msg::RegistrationKey> Member::key_for(const Wanted& wanted) const {
  if (wanted.key_file.empty()) {
    return fail(ErrorCode::kUnauthorized, parts_.program + " has not registered and has no key",
                "set registration_key to a file made by `farside key create`");
  }
  FARSIDE_ASSIGN(auto key, identity::load_key(wanted.key_file, parts_.clock.now()));
  if (key.role != wanted.role) {
    return fail(ErrorCode::kInvalidArgument,
                "registration key '" + wanted.key_file + "' admits one " +
                    std::string(msg::to_text(key.role)) + ", not " + parts_.program,
                "create a key with `farside key create --role " +
                    std::string(msg::to_text(wanted.role)) + "`");
  }
  return key;
}

// Whether it may be the way to a membership that we do not have.
bool Member::is_fresh(const msg::RegistrationKey& key, const msg::Registered& stored) const {
  if (!stored.joined_with.empty()) return key.public_key != stored.joined_with;
  // Registered by an earlier release, which did not note with what.
  const auto issuer = issuer_of(stored);
  return knock(keys_, issuer.endpoint, issuer.public_key) == Knock::kRefused;
}

Result<msg::Registered> Member::enter(const msg::RegistrationKey& key, const Wanted& wanted,
                                      std::chrono::seconds patience) {
  FARSIDE_ASSIGN(const auto stored, identity::Membership::load(parts_.store));
  const auto principal = principal_of(key, wanted.name);
  if (stored && stored->principal != principal) {
    return fail(ErrorCode::kConflict,
                "registration key '" + key.name + "' admits '" + principal +
                    "', but the state in '" + parts_.data_dir + "' is that of '" +
                    stored->principal + "'",
                "use a key and a name for '" + stored->principal + "', or another data_dir");
  }
  FARSIDE_ASSIGN(auto registered, join({.key = key,
                                        .keys = keys_,
                                        .name = wanted.name,
                                        .endpoint = wanted.endpoint,
                                        .version = std::string(kVersion)},
                                       patience, parts_.clock, parts_.random));
  store::Batch batch;
  identity::Membership::save(batch, registered);
  FARSIDE_TRY(parts_.store.commit(batch));
  log::info("registered", {{"as", registered.principal}});
  return registered;
}

Result<msg::Registered> Member::ensure(const Wanted& wanted) {
  FARSIDE_ASSIGN(const auto stored, identity::Membership::load(parts_.store));
  const auto key = key_for(wanted);
  if (!stored) {
    if (!key) return fail(key.error());
    return enter(*key, wanted, wanted.patience);
  }
  if (!stored->public_key.empty() && stored->public_key != keys_.public_key) {
    if (key) return enter(*key, wanted, wanted.patience);
    return fail(ErrorCode::kUnauthorized,
                "'" + path() + "' is not the identity that '" + stored->principal +
                    "' registered with, and there is no key to register it: " + key.error().what,
                "revoke '" + stored->principal +
                    "' if its identity was lost, create a key with `farside key create`, and name "
                    "its file as registration_key");
  }
  if (!key || !is_fresh(*key, *stored)) return *stored;
  auto registered = enter(*key, wanted, std::min(kRejoinPatience, wanted.patience));
  if (registered) return registered;
  notice_ = "registration key '" + wanted.key_file + "' was not taken: " + registered.error().what +
            "; '" + stored->principal +
            "' goes on as it was registered before; next: " + registered.error().advice;
  log::warn("registration key not taken", {{"cause", registered.error()}});
  return *stored;
}

Status Member::rotate() {
  FARSIDE_ASSIGN(auto stored, identity::Membership::load(parts_.store));
  const auto issuer = stored ? issuer_of(*stored) : msg::Peer{};
  if (issuer.endpoint.empty()) {
    return fail(ErrorCode::kConflict, parts_.program + " is registered with nobody",
                "nobody admitted it by its key: there is nothing to rotate");
  }
  FARSIDE_ASSIGN(const auto next, bus::load_or_create_keys(next_path()));
  FARSIDE_ASSIGN(const auto proof,
                 make_proof(next, issuer.public_key, identity::rotation_statement(keys_.public_key),
                            parts_.random));
  FARSIDE_ASSIGN(
      const auto answer,
      ask_issuer(
          {.keys = keys_,
           .issuer = issuer,
           .from = stored->principal,
           .body = msg::Message(msg::RotateKey{.public_key = next.public_key, .proof = proof})},
          kRotationPatience, parts_.clock, parts_.random));
  if (!answer) {
    return fail(ErrorCode::kTimeout,
                "'" + issuer.principal + "' at " + issuer.endpoint + " did not answer within " +
                    std::to_string(kRotationPatience.count()) + " s",
                "check that it runs and lets this process in, then do this again");
  }
  if (const auto rotated = flow::expect<msg::KeyRotated>(*answer); !rotated) {
    std::error_code ec;
    std::filesystem::remove(next_path(), ec);
    return fail(rotated.error());
  }
  return take(next, std::move(*stored));
}

}  // namespace farside::shell
