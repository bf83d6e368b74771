#include "common/shell/join.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "common/base/log.h"
#include "common/bus/zmq_bus.h"
#include "common/flow/step.h"

namespace farside::shell {
namespace {

// Whether anything listens at "tcp://HOST:PORT"; only to tell an operator what to look at.
bool is_listening(const std::string& endpoint) {
  const auto host_at = endpoint.find("://") + 3;
  const auto colon = endpoint.rfind(':');
  if (!endpoint.starts_with("tcp://") || colon < host_at) return false;
  std::string host = endpoint.substr(host_at, colon - host_at);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo* found = nullptr;
  const addrinfo wanted{.ai_socktype = SOCK_STREAM};
  if (getaddrinfo(host.c_str(), endpoint.c_str() + colon + 1, &wanted, &found) != 0) return false;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const int fd = socket(one->ai_family, one->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    pollfd writable{.fd = fd, .events = POLLOUT, .revents = 0};
    std::ignore = connect(fd, one->ai_addr, one->ai_addrlen);
    const bool up = poll(&writable, 1, 1000) == 1 && (writable.revents & (POLLERR | POLLHUP)) == 0;
    close(fd);
    if (up) return true;
  }
  return false;
}

}  // namespace

Result<msg::Registered> join(const JoinRequest& request, std::chrono::seconds deadline,
                             const Clock& clock, Random& random) {
  const auto& key = request.key;
  FARSIDE_ASSIGN(
      const auto bus,
      bus::ZmqBus::open(
          {.keys = {.public_key = key.public_key, .secret_key = key.secret_key}, .listen = ""},
          clock));
  FARSIDE_TRY(bus->set_peer(msg::Peer{.principal = key.issuer,
                                      .role = msg::Role::vault,
                                      .public_key = key.server_key,
                                      .endpoint = key.endpoint}));
  const msg::Envelope envelope{.id = "register/" + random.uuid(),
                               .from = "registrant/" + key.name,
                               .to = key.issuer,
                               .reply = false,
                               .body = msg::Message(msg::Register{.secret = key.secret,
                                                                  .public_key = request.public_key,
                                                                  .name = request.name,
                                                                  .endpoint = request.endpoint,
                                                                  .version = request.version})};
  std::optional<msg::Message> answer;
  const reactor::Bus::Handlers handlers{.on_frame =
                                            [&](const reactor::PeerId&, std::string_view frame) {
                                              auto reply = msg::decode<msg::Envelope>(frame);
                                              if (reply && reply->reply && reply->id == envelope.id)
                                                answer = std::move(reply->body);
                                            },
                                        .on_peer = [](const reactor::PeerChange&) {}};

  const auto until = clock.monotonic() + deadline;
  auto send_at = clock.monotonic();
  log::info("registering", {{"with", key.issuer}, {"at", key.endpoint}});
  while (!answer && clock.monotonic() < until) {
    if (clock.monotonic() >= send_at) {
      bus->send(key.issuer, msg::encode(envelope));
      send_at = clock.monotonic() + std::chrono::seconds{1};
    }
    FARSIDE_TRY(bus->poll(200, 16, handlers));
  }
  if (!answer && is_listening(key.endpoint)) {
    return fail(ErrorCode::kUnauthorized,
                "what listens at " + key.endpoint + " does not accept registration key '" +
                    key.name + "' of '" + key.issuer + "'",
                "the key was changed, has expired, was revoked, or another '" + key.issuer +
                    "' listens there now: create a new key");
  }
  if (!answer) {
    return fail(ErrorCode::kTimeout,
                "'" + key.issuer + "' at " + key.endpoint + " did not answer within " +
                    std::to_string(deadline.count()) + " s",
                "check that it runs and that its port is open from here");
  }
  return flow::expect<msg::Registered>(*answer);
}

}  // namespace farside::shell
