// Who this process is to the others: its identity file, and its place among them.
//
//   no membership ──registration key──► member ──new registration key──► member, same state
//                                         └──rotate()──► member, with another key
//
// Joining anew keeps all state: fences, cursors and replicas belong to the principal, not its key.
// Owns: identity.key and identity.key.next in the data folder; through Membership "membership".
// Thread: main, before the reactor runs.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/result.h"
#include "common/bus/curve_keys.h"
#include "common/schema/control.plain.h"
#include "common/store/store.h"

namespace farside::shell {

class Member final {
 public:
  struct Parts {
    std::string program;
    std::string data_dir;
    store::Store& store;
    const Clock& clock;
    Random& random;
  };
  // Its keys of last time, or new ones the first time; ends a rotation that a crash cut short.
  // Errors: those of bus::load_keys() and of the store.
  static Result<std::unique_ptr<Member>> open(Parts parts);

  struct Wanted {
    msg::Role role = msg::Role::nobody;
    std::string name;
    std::string endpoint;  // Where we listen; empty: we only dial out.
    std::string key_file;  // Empty: there is none.
    std::chrono::seconds patience{60};
  };
  // Registers if this has not happened yet, or if there is a key file for that: one that was not
  // used yet, or any once the identity file is not the one we registered with.  Where the present
  // membership may do, a refusal is a notice.  Errors: those of join() and load_key().
  Result<msg::Registered> ensure(const Wanted& wanted);

  // Takes another key pair, agreed upon with our issuer over the present one.  If it is cut short
  // anywhere, one of the two is let in, and open() or another call ends it.
  // Errors: kConflict (not registered), kTimeout, the issuer's refusal.
  Status rotate();

  const bus::CurveKeys& keys() const { return keys_; }
  // What an operator should know although we are a member; empty: nothing.
  const std::string& notice() const { return notice_; }

 private:
  explicit Member(Parts parts) : parts_(std::move(parts)) {}
  Status settle();
  Status take(const bus::CurveKeys& next, msg::Registered registered);
  Result<msg::RegistrationKey> key_for(const Wanted& wanted) const;
  Result<msg::Registered> enter(const msg::RegistrationKey& key, const Wanted& wanted,
                                std::chrono::seconds patience);
  bool is_fresh(const msg::RegistrationKey& key, const msg::Registered& stored) const;
  std::string path() const { return parts_.data_dir + "/identity.key"; }
  std::string next_path() const { return path() + ".next"; }

  Parts parts_;
  bus::CurveKeys keys_;
  std::string notice_;
};

// Who admitted us: the provider of its site an agent, the vault everybody else.  No endpoint: not
// known.
msg::Peer issuer_of(const msg::Registered& registered);

}  // namespace farside::shell
