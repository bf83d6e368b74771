// What a process was told when it registered: who it is and whom to talk to.
//
// Owns: column "membership".  Thread: the reactor's.
#pragma once

#include "common/reactor/effects.h"
#include "common/store/table.h"

namespace farside::identity {

class Membership final {
 public:
  // Absent: this process has not registered yet.
  static Result<std::optional<msg::Registered>> load(const store::Reader& store);
  static void save(store::Batch& batch, const msg::Registered& registered);

  // Admits and dials everybody it was told of.
  void start(reactor::Effects& effects) const;

  // True if the message was for this class: PeersChanged from whoever registered us.
  bool on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                  reactor::Effects& effects) const;
};

}  // namespace farside::identity
