#include "tests/support/hvsim/settings_change.h"

namespace farside::hvsim {

MethodResult change_settings(RealHost& host, const SettingsChange& change, Jobs::Work work) {
  bool by_job = false;
  {
    const std::lock_guard lock(host.faults.mutex);
    by_job = host.faults.failing_jobs > 0 || host.faults.settings_by_job;
  }
  if (by_job) return host.jobs.start(change.caption, change.affected, std::move(work));
  const auto done = work();
  if (!done) {
    const auto repeat = [error = done.error()]() -> Result<std::vector<Reference>> {
      return fail(error);
    };
    return host.jobs.start(change.caption, change.affected, repeat);
  }
  MethodResult result;
  if (change.result.empty()) return result;
  std::vector<Value> references;
  for (const Reference& one : *done) references.push_back(Value::reference(one));
  result.outputs = {{change.result, change.is_list       ? Value::list(references)
                                    : references.empty() ? Value::null()
                                                         : references[0]}};
  return result;
}

Result<std::vector<Reference>> references_of(const MethodCall& call, const std::string& name) {
  std::vector<Reference> references;
  for (const Value& one : call.as_instance().list(name)) {
    const auto* reference = std::get_if<Reference>(&one.of);
    if (reference == nullptr) return fail(ErrorCode::kInvalidArgument, "a null in " + name);
    references.push_back(*reference);
  }
  return references;
}

}  // namespace farside::hvsim
