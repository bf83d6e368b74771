// How an identity gets another key without a moment in which neither is let in:
//
//   present key ──RotateKey──► both let in ──new key heard of──► new key only
//   ... or, a day later, the one that was heard of meanwhile
//
// The bus knows one key by name, so until then the new one is let in under a name of its own.
#include "common/base/assert.h"
#include "common/base/log.h"
#include "common/identity/registrar.h"

namespace farside::identity {

std::string rotation_statement(const std::string& present_key) {
  return "farside rotate " + present_key;
}

msg::Peer successor(const msg::Identity& identity) {
  return msg::Peer{.principal = "successor/" + identity.peer.principal,
                   .role = msg::Role::registrant,
                   .public_key = identity.next_key,
                   .site = identity.peer.site};
}

Result<msg::KeyRotated> Registrar::rotate(const reactor::PeerId& peer, const msg::RotateKey& wanted,
                                          reactor::Effects& effects) {
  FARSIDE_ASSIGN(auto identity, admitted(effects.store(), peer.principal));
  if (!identity) {
    return fail(ErrorCode::kUnauthorized, "'" + peer.principal + "' has no identity here",
                "register it with a key made by `farside key create`");
  }
  if (peer.role == msg::Role::provider) {
    return fail(ErrorCode::kUnsupported,
                "the agents of '" + peer.principal + "' know it by its key",
                "revoke it, register it anew, and give its agents new keys");
  }
  // Also when it asks again: it has not taken the next key yet, and may take it and be away for
  // days.
  heard_meanwhile_.erase(peer.principal);
  if (wanted.public_key == identity->next_key || wanted.public_key == identity->peer.public_key) {
    return msg::KeyRotated{.public_key = wanted.public_key};
  }
  // Each of them has to be remembered: whoever revokes an identity may know it by any of its keys.
  if (identity->earlier_keys.size() >= kEarlierKeysMax) {
    return fail(ErrorCode::kConflict,
                "'" + peer.principal + "' has rotated its key " + std::to_string(kEarlierKeysMax) +
                    " times since it registered",
                "register it anew with a key made by `farside key create`");
  }
  FARSIDE_ASSERT(issuer_.open_proof != nullptr);
  FARSIDE_TRY(issuer_.open_proof({.public_key = wanted.public_key,
                                  .proof = wanted.proof,
                                  .statement = rotation_statement(identity->peer.public_key)}));
  FARSIDE_TRY(check_unique(wanted.public_key, peer.principal, effects.store()));
  if (!identity->next_key.empty()) effects.remove_peer(successor(*identity).principal);
  identity->next_key = wanted.public_key;
  identity->rotated_at = effects.now().micros;
  identities_.put(effects.writes, peer.principal, *identity);
  effects.set_peer(successor(*identity));
  tend_by((effects.now() + kBothKeysFor).micros);
  log::info("key to be rotated", {{"principal", peer.principal}});
  return msg::KeyRotated{.public_key = wanted.public_key};
}

// The next key is the key from now on.
void Registrar::promote(msg::Identity identity, reactor::Effects& effects) const {
  effects.remove_peer(successor(identity).principal);
  identity.earlier_keys.push_back(identity.peer.public_key);
  identity.peer.public_key = identity.next_key;
  identity.next_key.clear();
  identities_.put(effects.writes, identity.peer.principal, identity);
  effects.set_peer(identity.peer);
  log::info("key rotated", {{"principal", identity.peer.principal}});
}

// Whoever was to have it goes on with the present one.
void Registrar::drop_next(msg::Identity identity, reactor::Effects& effects) const {
  effects.remove_peer(successor(identity).principal);
  identity.next_key.clear();
  identities_.put(effects.writes, identity.peer.principal, identity);
  log::warn("key rotation given up", {{"principal", identity.peer.principal},
                                      {"cause", "its next key was not heard of for a day"}});
}

}  // namespace farside::identity
