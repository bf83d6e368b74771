#include "common/shell/join.h"

#include "common/base/log.h"
#include "common/flow/step.h"
#include "common/shell/issuer_call.h"
#include "common/shell/key_proof.h"
#include "common/shell/knock.h"

namespace farside::shell {
namespace {

// Why nobody answered.
Error silence(const msg::RegistrationKey& key, const bus::CurveKeys& keys,
              std::chrono::seconds deadline) {
  const auto seen = knock(keys, key.endpoint, key.server_key);
  if (seen == Knock::kRefused || seen == Knock::kStranger) {
    return {.code = ErrorCode::kUnauthorized,
            .what = "what listens at " + key.endpoint + " does not accept registration key '" +
                    key.name + "' of '" + key.issuer + "'",
            .advice = seen == Knock::kRefused
                          ? "the key was used already, was changed, has expired or was revoked: "
                            "create a new key"
                          : "another '" + key.issuer +
                                "' listens there now, or the key was changed: create a new key"};
  }
  return {.code = ErrorCode::kTimeout,
          .what = "'" + key.issuer + "' at " + key.endpoint + " did not answer within " +
                  std::to_string(deadline.count()) + " s",
          .advice = "check that it runs and that its port is open from here"};
}

}  // namespace

Result<msg::Registered> join(const JoinRequest& request, std::chrono::seconds deadline,
                             const Clock& clock, Random& random) {
  const auto& key = request.key;
  FARSIDE_ASSIGN(const auto proof,
                 make_proof(request.keys, key.server_key,
                            identity::registration_statement(key.secret), random));
  const bus::CurveKeys one_time{.public_key = key.public_key, .secret_key = key.secret_key};
  log::info("registering", {{"with", key.issuer}, {"at", key.endpoint}});
  FARSIDE_ASSIGN(
      const auto answer,
      ask_issuer({.keys = one_time,
                  .issuer = {.principal = key.issuer,
                             .role = msg::Role::vault,
                             .public_key = key.server_key,
                             .endpoint = key.endpoint},
                  .from = "registrant/" + key.name,
                  .body = msg::Message(msg::Register{.secret = key.secret,
                                                     .public_key = request.keys.public_key,
                                                     .name = request.name,
                                                     .endpoint = request.endpoint,
                                                     .version = request.version,
                                                     .proof = proof})},
                 deadline, clock, random));
  if (!answer) return fail(silence(key, one_time, deadline));
  FARSIDE_ASSIGN(auto registered, flow::expect<msg::Registered>(*answer));
  registered.public_key = request.keys.public_key;
  registered.joined_with = key.public_key;
  return registered;
}

}  // namespace farside::shell
