#include "services/agent/platforms/libvirt/fences.h"

#include <fmt/core.h>

#include <optional>

#include "common/base/log.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"
#include "services/agent/platforms/libvirt/power.h"

namespace farside::agent::libvirt {

Result<std::unique_ptr<Fences>> Fences::open(const std::string& state_dir, Session& session) {
  FARSIDE_ASSIGN(auto fenced, Marks::open(state_dir + "/fenced"));
  FARSIDE_ASSIGN(auto autostarted, Marks::open(state_dir + "/autostarted"));
  return std::unique_ptr<Fences>(new Fences(session, std::move(fenced), std::move(autostarted)));
}

// libvirt starts a VM with its host before any agent is there to stop it.
Status Fences::keep_from_starting(virDomainPtr domain, const std::string& vm_id) {
  int autostart = 0;
  if (virDomainGetAutostart(domain, &autostart) != 0) {
    return libvirt_error("autostart of VM " + vm_id);
  }
  if (autostart == 0) return {};
  FARSIDE_TRY(autostarted_.add(vm_id));
  if (virDomainSetAutostart(domain, 0) != 0) return libvirt_error("autostart of VM " + vm_id);
  return {};
}

Status Fences::set(const std::string& vm_id, bool fenced) {
  if (fenced) FARSIDE_TRY(fenced_.add(vm_id));
  const auto domain = session_.find(vm_id);
  const bool is_gone = !domain && domain.error().code == ErrorCode::kNotFound;
  if (!domain && !is_gone) return fail(domain.error());
  if (fenced) return is_gone ? Status{} : keep_from_starting(domain->get(), vm_id);
  if (!is_gone && autostarted_.has(vm_id) && virDomainSetAutostart(domain->get(), 1) != 0) {
    return libvirt_error("autostart of VM " + vm_id);
  }
  FARSIDE_TRY(autostarted_.remove(vm_id));
  return fenced_.remove(vm_id);
}

Result<bool> Fences::enforce(const std::string& vm_id) {
  const auto domain = session_.find(vm_id);
  if (!domain) {
    if (domain.error().code == ErrorCode::kNotFound) return false;
    return fail(domain.error().in(fmt::format("fence of VM {} cannot be checked", vm_id)));
  }
  const auto active = is_active(domain->get());
  if (!active)
    return fail(active.error().in(fmt::format("fence of VM {} cannot be checked", vm_id)));
  if (*active) {
    log::warn("fenced_vm_runs", {{"vm", vm_id}});
    if (const auto off = turn_off(domain->get()); !off) {
      return fail(off.error().in("fenced VM " + vm_id));
    }
  }
  FARSIDE_TRY(keep_from_starting(domain->get(), vm_id));
  return *active;
}

Result<std::vector<std::string>> Fences::enforce() {
  std::vector<std::string> turned_off;
  std::optional<Error> first_error;  // One VM that refuses must not let the others run.
  for (const std::string& id : fenced_.all()) {
    const auto ran = enforce(id);
    if (ran && *ran) turned_off.push_back(id);
    if (!ran && !first_error) first_error = ran.error();
  }
  if (first_error) return fail(std::move(*first_error));
  return turned_off;
}

Status Fences::forget(const std::string& vm_id) {
  FARSIDE_TRY(autostarted_.remove(vm_id));
  return fenced_.remove(vm_id);
}

}  // namespace farside::agent::libvirt
