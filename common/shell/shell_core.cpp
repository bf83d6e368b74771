#include "common/shell/shell_core.h"

#include "common/base/log.h"

namespace farside::shell {
namespace {

constexpr std::string_view kTimer = "shell/rotate";
constexpr Micros kAnswerLeavesIn = std::chrono::milliseconds{500};

}  // namespace

void ShellCore::on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                           reactor::Effects& effects) {
  const bool is_order = std::holds_alternative<msg::RotateIdentity>(envelope.body.value);
  if (!is_order || envelope.to != effects.self()) {  // A provider passes it on to its agents.
    parts_.core.on_message(peer, envelope, effects);
    return;
  }
  const bool may_order = !parts_.issuer.empty() && peer.principal == parts_.issuer &&
                         envelope.from == "vault" && !envelope.reply && !envelope.id.empty();
  if (!may_order) {
    log::warn("message refused", {{"peer", peer.principal},
                                  {"from", envelope.from},
                                  {"message", msg::name_of(envelope.body)}});
    return;
  }
  log::info("rotation ordered", {{"by", envelope.from}});
  effects.reply(peer.principal, envelope,
                reactor::message(msg::RotationBegun{.public_key = parts_.public_key}));
  effects.set_timer(std::string(kTimer), kAnswerLeavesIn);
}

void ShellCore::on_timer(const std::string& name, reactor::Effects& effects) {
  if (name == kTimer) {
    wants_rotation_ = true;
  } else {
    parts_.core.on_timer(name, effects);
  }
}

void ShellCore::on_peer(const reactor::PeerChange& change, reactor::Effects& effects) {
  parts_.reception.heard(change.peer.principal, change.connected);
  parts_.core.on_peer(change, effects);
}

}  // namespace farside::shell
