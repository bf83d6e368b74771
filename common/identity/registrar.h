// Issues one-time registration keys and admits who comes with one; keeps and revokes identities.
//
// Used by the vault (for orchestrators and providers) and by each provider (for its agents).
// Owns: columns "issued_key" and "identity".  Thread: the reactor's.
// Invariants: a key admits one public key, once, until it expires; repeating a registration with
// the same public key repeats the answer.  A revoked identity is never admitted again.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/reactor/effects.h"
#include "common/schema/vault.plain.h"
#include "common/store/table.h"

namespace farside::identity {

inline constexpr std::chrono::hours kKeyValidMax{5 * 24};
inline constexpr std::size_t kKeysMax = 1'000;

struct KeyPair {
  std::string public_key;  // Z85.
  std::string secret_key;
};
// Derives a CURVE key pair from 64 hex digits; pure.
using KeyPairFrom = std::function<KeyPair(const std::string& secret_hex)>;

struct Issuer {
  std::string principal;   // Who we are ...
  std::string endpoint;    // ... where we listen, as seen from those who will join ...
  std::string public_key;  // ... and our key.
  KeyPairFrom key_pair_from;
};

class Registrar final {
 public:
  explicit Registrar(Issuer issuer) : issuer_(std::move(issuer)) {}

  // Admits every identity and unexpired key that is stored.  Call in Core::start().
  void start(reactor::Effects& effects) const;

  struct NewKey {
    std::string name;
    msg::Role role = msg::Role::nobody;
    std::string site;
    std::chrono::hours valid{24};
  };
  // Errors: kInvalidArgument (validity, role, name), kAlreadyExists, kTooLarge (too many keys).
  Result<msg::RegistrationKey> issue(const NewKey& wanted, reactor::Effects& effects) const;
  Result<std::vector<msg::IssuedKey>> keys(const store::Reader& store) const;
  Status revoke_key(const std::string& name, reactor::Effects& effects) const;

  // Answers a Register that came over a registrant's connection: the new identity.
  // Errors: kUnauthorized, kExpired, kRevoked, kAlreadyExists (name taken by another key).
  Result<msg::Identity> admit(const reactor::PeerId& peer, const msg::Register& wanted,
                              reactor::Effects& effects) const;

  Result<std::vector<msg::Identity>> identities(const store::Reader& store) const;
  Status revoke(const std::string& principal, reactor::Effects& effects) const;

 private:
  Issuer issuer_;
  store::Table<msg::IssuedKey> keys_{"issued_key"};
  store::Table<msg::Identity> identities_{"identity"};
};

// The neighbour behind which a principal lives: "agent/<site>/<host>" is reached through
// "provider/<site>", everybody else directly.
std::string neighbour_of(const std::string& principal);

// Names that become part of a principal: letters, digits, '.', '_', '-', at most 63.
Status check_name(std::string_view what, std::string_view name);

}  // namespace farside::identity
