// Issues one-time registration keys and admits who comes with one; keeps, rotates and revokes
// identities.
//
// Used by the vault (for orchestrators and providers) and by each provider (for its agents).
// Owns: columns "issued_key" and "identity".  Thread: the reactor's.
// Invariants: a key admits one public key, under one name, once, until it expires or the new
// identity is heard of, whichever comes first; the same registration is answered again until then.
// No two identities or open keys have one public key, and nobody is admitted with a public key
// whose secret half it does not show to have.  A revoked key is never admitted again.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "common/reactor/effects.h"
#include "common/schema/vault.plain.h"
#include "common/store/table.h"

namespace farside::identity {

inline constexpr std::chrono::hours kKeyValidMax{5 * 24};
inline constexpr std::size_t kKeysMax = 1'000;
inline constexpr std::chrono::hours kSpentKeyKept{30 * 24};  // For `farside key list`.
inline constexpr std::chrono::hours kBothKeysFor{24};        // After a rotation nobody finished.
inline constexpr std::size_t kEarlierKeysMax = 16;           // The oldest is forgotten.

struct KeyPair {
  std::string public_key;  // Z85.
  std::string secret_key;
};
// Derives a CURVE key pair from 64 hex digits; pure.
using KeyPairFrom = std::function<KeyPair(const std::string& secret_hex)>;

// What shows that whoever says `statement` has the secret half of `public_key`.
struct KeyProof {
  std::string public_key;
  std::string proof;
  std::string statement;
};
// Pure.  Errors: kInvalidArgument (not a public key), kUnauthorized (no such proof).
using OpenProof = std::function<Status(const KeyProof&)>;

// What a registration and a rotation are proven with.
std::string registration_statement(const std::string& one_time_secret);
std::string rotation_statement(const std::string& present_key);

struct Issuer {
  std::string principal;   // Who we are ...
  std::string endpoint;    // ... where we listen, as seen from those who will join ...
  std::string public_key;  // ... and our key.
  KeyPairFrom key_pair_from;
  OpenProof open_proof;
};

class Registrar final {
 public:
  explicit Registrar(Issuer issuer) : issuer_(std::move(issuer)) {}

  // Admits every identity and open key that is stored.  Call in Core::start().
  void start(reactor::Effects& effects);

  // Closes what has expired; call every few seconds.  True as heard().
  bool tend(reactor::Effects& effects);

  // `peer` is there, by its own key: the one-time key it came with is of no further use.  True if
  // an identity has got another key that others must be told of.
  bool heard(const reactor::PeerId& peer, reactor::Effects& effects);

  struct NewKey {
    std::string name;
    msg::Role role = msg::Role::nobody;
    std::string site;
    std::string host;  // Of an agent; empty: any.
    std::chrono::hours valid{24};
    bool replaces_unused = false;  // An earlier one of this name that nobody has used.
  };
  // Takes the place of a spent key of the same name.
  // Errors: kInvalidArgument (validity, role, name), kAlreadyExists, kTooLarge (too many keys).
  Result<msg::RegistrationKey> issue(const NewKey& wanted, reactor::Effects& effects);
  Result<std::vector<msg::IssuedKey>> keys(const store::Reader& store) const;
  Status revoke_key(const std::string& name, reactor::Effects& effects) const;

  // Answers a Register that came over a registrant's connection: the new identity.
  // Errors: kUnauthorized, kExpired, kRevoked, kForbidden (token of another host),
  // kAlreadyExists (name taken by another key), kConflict (key taken by another name),
  // kInvalidArgument (the endpoint), those of OpenProof.
  Result<msg::Identity> admit(const reactor::PeerId& peer, const msg::Register& wanted,
                              reactor::Effects& effects);

  // Answers a RotateKey that came over the present key.  Both are let in until the new one is
  // heard of, or for kBothKeysFor; repeating it repeats the answer.
  // Errors: kUnauthorized, kUnsupported (a provider), kConflict, those of OpenProof.
  Result<msg::KeyRotated> rotate(const reactor::PeerId& peer, const msg::RotateKey& wanted,
                                 reactor::Effects& effects);

  Result<std::vector<msg::Identity>> identities(const store::Reader& store) const;
  // nullopt: nobody of that name was admitted, or it was revoked.
  Result<std::optional<msg::Identity>> admitted(const store::Reader& store,
                                                const std::string& principal) const;

  // The public key that is let in no more.  If the identity has registered with another one than
  // `public_key` since, it stays; an empty one means whatever it has.  Errors: kNotFound.
  Result<std::string> revoke(const std::string& principal, const std::string& public_key,
                             reactor::Effects& effects);

 private:
  void close(msg::IssuedKey key, reactor::Effects& effects);
  void close_awaited(const std::string& principal, reactor::Effects& effects);
  Status check_use(const msg::IssuedKey& key, const msg::Register& wanted, Time now) const;
  Result<msg::Identity> again(const std::string& principal, const msg::Register& wanted,
                              const store::Reader& store) const;
  Status check_unique(const std::string& public_key, const std::string& principal,
                      const store::Reader& store) const;
  void promote(msg::Identity identity, reactor::Effects& effects) const;
  void drop_next(msg::Identity identity, reactor::Effects& effects) const;  // rotation.cpp
  void tend_by(std::int64_t at) { tend_at_ = std::min(tend_at_, at); }

  Issuer issuer_;
  store::Table<msg::IssuedKey> keys_{"issued_key"};
  store::Table<msg::Identity> identities_{"identity"};
  // Who was heard of with the present key since it asked for another, or since we started.
  std::set<std::string> heard_meanwhile_;
  // Used keys whose new identity was not heard of yet, by its principal; rebuilt by start().
  std::map<std::string, std::string> awaited_;
  std::int64_t tend_at_ = 0;  // Nothing expires before.
};

// The neighbour behind which a principal lives: "agent/<site>/<host>" is reached through
// "provider/<site>", everybody else directly.
std::string neighbour_of(const std::string& principal);

// The site of a provider or an agent.
std::string site_of(const std::string& principal);

// "h1" of "agent/A/h1".
std::string host_of(const std::string& agent);

// Whether `principal` is "agent/<site>/<host>" with a usable name of a host.
bool is_agent_of(const std::string& principal, const std::string& site);

// Names that become part of a principal: letters, digits, '.', '_', '-', at most 63.
Status check_name(std::string_view what, std::string_view name);

// Who registers, and who has a new key, has no identity yet and may say nothing else.
msg::Peer registrant(const msg::IssuedKey& key);
msg::Peer successor(const msg::Identity& identity);

}  // namespace farside::identity
