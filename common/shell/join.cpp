#include "common/shell/join.h"

#include <optional>

#include "common/base/log.h"
#include "common/bus/zmq_bus.h"
#include "common/flow/step.h"

namespace farside::shell {

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
  if (!answer) {
    return fail(ErrorCode::kTimeout,
                "'" + key.issuer + "' at " + key.endpoint + " did not answer within " +
                    std::to_string(deadline.count()) + " s",
                "check that it runs, that its port is open from here, and that the key was not "
                "revoked");
  }
  return flow::expect<msg::Registered>(*answer);
}

}  // namespace farside::shell
