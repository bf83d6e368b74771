#include "tests/support/hvsim/jobs.h"

#include <algorithm>

namespace farside::hvsim {

Micros Jobs::scaled(Micros time) const {
  return Micros{static_cast<std::int64_t>(static_cast<double>(time.count()) / times_.scale)};
}

MethodResult Jobs::start(const std::string& caption, const Reference& affected, Work on_end,
                         std::function<void()> on_failure) {
  const Micros now = clock_.monotonic();
  Instance instance{.class_name = "Msvm_ConcreteJob", .properties = {}};
  instance.properties["InstanceID"] = Value::text(random_.uuid());
  instance.properties["Caption"] = Value::text(caption);
  instance.properties["ElementName"] = Value::text(caption);
  instance.properties["JobState"] = Value::u16(4);
  instance.properties["PercentComplete"] = Value::u16(0);
  instance.properties["ErrorCode"] = Value::u16(0);
  instance.properties["ErrorDescription"] = Value::null();
  instance.properties["TimeBeforeRemoval"] = Value::text("00000000000500.000000:000");
  const Instance& added = objects_.add(std::move(instance));
  if (const Instance* element = objects_.find(affected); element != nullptr) {
    objects_.associate("Msvm_AffectedJobElement", added, *element);
  }
  Job job{.reference = objects_.reference_to(added),
          .begins = now,
          .ends = now,
          .on_end = std::move(on_end),
          .on_failure = std::move(on_failure)};
  {
    const std::lock_guard lock(faults_.mutex);
    job.ends += scaled(Micros{faults_.job_ms * 1000});
    job.fails = faults_.failing_jobs > 0;
    if (job.fails) --faults_.failing_jobs;
  }
  jobs_.push_back(std::move(job));
  return {.return_value = 4096, .outputs = {{"Job", Value::reference(jobs_.back().reference)}}};
}

void Jobs::end(Job& job) {
  job.has_ended = true;
  std::uint64_t code = 32768;
  std::string text;
  if (job.fails) {
    const std::lock_guard lock(faults_.mutex);
    code = faults_.failing_code;
    text = faults_.failing_text;
  } else {
    const auto done = job.on_end();
    Instance* instance = objects_.find(job.reference);
    if (done && instance == nullptr) return;
    for (const Reference& one : done.value_or(std::vector<Reference>{})) {
      if (const Instance* made = objects_.find(one); made != nullptr) {
        objects_.associate("Msvm_AffectedJobElement", *instance, *made);
      }
    }
    if (!done) text = to_text(done.error());
    job.fails = !done;
  }
  if (job.fails && job.on_failure) job.on_failure();
  Instance* instance = objects_.find(job.reference);
  if (instance == nullptr) return;
  instance->properties["PercentComplete"] = Value::u16(100);
  instance->properties["JobState"] = Value::u16(job.fails ? 10 : 7);
  if (!job.fails) return;
  instance->properties["ErrorCode"] = Value::u16(static_cast<std::uint16_t>(code));
  instance->properties["ErrorDescription"] = Value::text(text);
}

void Jobs::advance() {
  const Micros now = clock_.monotonic();
  for (Job& job : jobs_) {
    if (!job.has_ended && now >= job.ends) end(job);
  }
  const Micros kept = scaled(times_.kept);
  std::erase_if(jobs_, [&](const Job& job) {
    if (!job.has_ended || now < job.ends + kept) return false;
    objects_.remove(job.reference);
    return true;
  });
}

}  // namespace farside::hvsim
