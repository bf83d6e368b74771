// Shows to one other process that we have the secret half of a public key, beside the connection's
// own key: nonce (24 bytes), then crypto_box(statement) from that key to the other's.
//
// Whoever can make one has our secret key or the other's.  CURVE's own boxes between these keys
// have nonces that begin with "VOUCH---", ours begin with "FARSIDE-".  Thread: any.
#pragma once

#include <string>

#include "common/base/random.h"
#include "common/base/result.h"
#include "common/bus/curve_keys.h"
#include "common/identity/registrar.h"

namespace farside::shell {

// Errors: kInvalidArgument (a key is none).
Result<std::string> make_proof(const bus::CurveKeys& own, const std::string& to_public_key,
                               const std::string& statement, Random& random);

// Errors: kInvalidArgument (not a public key), kUnauthorized (not made by its owner for us).
Status open_proof(const identity::KeyProof& shown, const std::string& own_secret_key);

}  // namespace farside::shell
