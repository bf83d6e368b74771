#include "common/identity/membership.h"

#include <algorithm>

#include "common/base/log.h"

namespace farside::identity {
namespace {

const store::Table<msg::Registered> kTable{"membership"};
constexpr std::string_view kSelf = "self";

// The vault speaks for everybody, a provider to its own agents only.
bool may_introduce(const reactor::PeerId& peer, const msg::Registered& us) {
  return peer.role == msg::Role::vault ||
         (us.principal.starts_with("agent/") && peer.principal == "provider/" + us.site);
}

}  // namespace

Result<std::optional<msg::Registered>> Membership::load(const store::Reader& store) {
  return kTable.get(store, std::string(kSelf));
}

void Membership::save(store::Batch& batch, const msg::Registered& registered) {
  kTable.put(batch, std::string(kSelf), registered);
}

void Membership::start(reactor::Effects& effects) const {
  const auto stored = load(effects.store());
  if (!stored) {
    log::error("membership unreadable", {{"cause", stored.error()}});
    return;
  }
  if (!*stored) return;
  for (const auto& peer : (*stored)->peers) effects.set_peer(peer);
}

bool Membership::on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                            reactor::Effects& effects) const {
  const auto* changed = std::get_if<msg::PeersChanged>(&envelope.body.value);
  if (changed == nullptr) return false;
  auto stored = load(effects.store());
  if (!stored || !*stored || !may_introduce(peer, **stored)) return true;
  auto& registered = **stored;
  if (registered.peers == changed->peers) return true;

  for (const auto& old : registered.peers) {
    const bool kept = std::ranges::any_of(
        changed->peers, [&](const auto& now) { return now.principal == old.principal; });
    if (!kept) effects.remove_peer(old.principal);
  }
  for (const auto& now : changed->peers) effects.set_peer(now);
  registered.peers = changed->peers;
  save(effects.writes, registered);
  return true;
}

}  // namespace farside::identity
