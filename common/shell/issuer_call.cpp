#include "common/shell/issuer_call.h"

#include "common/bus/zmq_bus.h"
#include "common/wire/codec.h"

namespace farside::shell {

Result<std::optional<msg::Message>> ask_issuer(const IssuerCall& call,
                                               std::chrono::seconds deadline, const Clock& clock,
                                               Random& random) {
  FARSIDE_ASSIGN(const auto bus, bus::ZmqBus::open({.keys = call.keys, .listen = ""}, clock));
  FARSIDE_TRY(bus->set_peer(call.issuer));
  const msg::Envelope envelope{.id = "issuer/" + random.uuid(),
                               .from = call.from,
                               .to = call.issuer.principal,
                               .reply = false,
                               .body = call.body};
  std::optional<msg::Message> answer;
  auto send_at = clock.monotonic();
  const reactor::Bus::Handlers handlers{
      .on_frame =
          [&](const reactor::PeerId&, std::string_view frame) {
            auto reply = msg::decode<msg::Envelope>(frame);
            if (reply && reply->reply && reply->id == envelope.id) answer = std::move(reply->body);
          },
      .on_peer = [&](const reactor::PeerChange&) { send_at = clock.monotonic(); }};
  const auto until = clock.monotonic() + deadline;
  while (!answer && clock.monotonic() < until) {
    if (clock.monotonic() >= send_at) {
      bus->send(call.issuer.principal, msg::encode(envelope));
      send_at = clock.monotonic() + std::chrono::seconds{1};
    }
    FARSIDE_TRY(bus->poll(200, 16, handlers));
  }
  return answer;
}

}  // namespace farside::shell
