// VMs that must not run here, as they are active elsewhere.
//
// Owns: state_dir/{fenced,autostarted}.  Thread: any.  Invariant: a fenced VM is only taken for one
// that does not run if libvirt says so.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "services/agent/platforms/libvirt/session.h"
#include "services/agent/platforms/marks.h"

namespace farside::agent::libvirt {

class Fences {
 public:
  // `session` outlives it.  Errors: kIo.
  static Result<std::unique_ptr<Fences>> open(const std::string& state_dir, Session& session);

  bool has(const std::string& vm_id) const { return fenced_.has(vm_id); }

  // See Platform::set_fenced.  After an error while fencing, the fence stands all the same, and
  // enforce() does what is left.
  Status set(const std::string& vm_id, bool fenced);

  // Turns off each fenced VM that runs; returns which.  Errors: the first one, after all of them
  // have been tried.
  Result<std::vector<std::string>> enforce();

  Status forget(const std::string& vm_id);  // The VM is gone for good.

 private:
  Fences(Session& session, Marks fenced, Marks autostarted)
      : session_(session), fenced_(std::move(fenced)), autostarted_(std::move(autostarted)) {}
  Status keep_from_starting(virDomainPtr domain, const std::string& vm_id);

  // Whether it ran.
  Result<bool> enforce(const std::string& vm_id);

  Session& session_;
  Marks fenced_;
  Marks autostarted_;  // Fenced VMs that libvirt would otherwise start with the host.
};

}  // namespace farside::agent::libvirt
