// A service's core as the reactor sees it, with what the shell itself has to hear and do.
//
//   every change of a peer            --> Reception, too
//   RotateIdentity, from the vault    --> answered; a moment later wants_rotation(), and run() ends
//
// Thread: the reactor's.
#pragma once

#include <string>

#include "common/reactor/effects.h"
#include "common/shell/reception.h"

namespace farside::shell {

class ShellCore final : public reactor::Core {
 public:
  struct Parts {
    reactor::Core& core;
    Reception& reception;
    std::string issuer;      // Who admitted us; empty: nobody.
    std::string public_key;  // Ours.
  };
  explicit ShellCore(Parts parts) : parts_(std::move(parts)) {}

  void start(reactor::Effects& effects) override { parts_.core.start(effects); }
  void on_message(const reactor::PeerId& peer, const msg::Envelope& envelope,
                  reactor::Effects& effects) override;
  void on_job(const std::string& id, const Result<msg::Message>& result,
              reactor::Effects& effects) override {
    parts_.core.on_job(id, result, effects);
  }
  void on_timer(const std::string& name, reactor::Effects& effects) override;
  void on_peer(const reactor::PeerChange& change, reactor::Effects& effects) override;

  bool wants_rotation() const { return wants_rotation_; }

 private:
  Parts parts_;
  bool wants_rotation_ = false;
};

}  // namespace farside::shell
