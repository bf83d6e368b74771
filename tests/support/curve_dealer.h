// libzmq's own client with the keys of whoever it plays; not connected yet.
#pragma once

#include <string>
#include <zmq.hpp>

#include "common/bus/curve_keys.h"

namespace farside::test {

inline zmq::socket_t curve_dealer(zmq::context_t& context, const bus::CurveKeys& keys,
                                  const std::string& server_key) {
  zmq::socket_t dealer(context, zmq::socket_type::dealer);
  dealer.set(zmq::sockopt::curve_serverkey, server_key);
  dealer.set(zmq::sockopt::curve_publickey, keys.public_key);
  dealer.set(zmq::sockopt::curve_secretkey, keys.secret_key);
  dealer.set(zmq::sockopt::linger, 200);  // See kLingerMs in data_plane/channel.cpp.
  return dealer;
}

// By the identity.key files of two processes.  Errors: those of load_keys().
struct Identities {
  bus::CurveKeys own;
  std::string server_key;
};
inline Result<Identities> load_identities(const std::string& own, const std::string& server) {
  FARSIDE_ASSIGN(auto keys, bus::load_keys(own));
  FARSIDE_ASSIGN(const auto other, bus::load_keys(server));
  return Identities{.own = std::move(keys), .server_key = other.public_key};
}

}  // namespace farside::test
