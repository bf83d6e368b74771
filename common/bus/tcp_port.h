// TCP sockets by the endpoints of the configuration: "tcp://HOST:PORT".
// Thread: any.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/descriptor.h"
#include "common/base/result.h"

struct sockaddr_storage;

namespace farside::bus {

struct HostPort {
  std::string host;  // Without brackets; "*": any address.
  std::string port;  // "0": any.
};
// Errors: kInvalidArgument.
Result<HostPort> host_port(const std::string& endpoint);

// A socket that listens, without waiting calls.  Errors: kUnavailable (taken), kInvalidArgument.
Result<Descriptor> listen_on(const std::string& endpoint);
// "tcp://0.0.0.0:41237" of such a socket.
std::string endpoint_of(int fd);

// Never waits in a call and notices a peer that is gone without a word.
void set_up_connection(int fd);

// "10.0.0.7:51234", "[fd00::7]:51234".
std::string text_of(const sockaddr_storage& address);
std::string host_of(const sockaddr_storage& address);  // Without the port.

}  // namespace farside::bus
