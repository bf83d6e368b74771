#include "services/agent/platforms/libvirt/points.h"

#include <fmt/core.h>
#include <libvirt/virterror.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "common/base/folder.h"
#include "common/base/log.h"
#include "common/base/uuid.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"

namespace farside::agent::libvirt {
namespace {

// The token of our newest checkpoint; empty: there is none.
Result<std::string> newest_checkpoint(virDomainPtr domain) {
  virDomainCheckpointPtr* list = nullptr;
  const int count =
      virDomainListAllCheckpoints(domain, &list, VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL);
  if (count < 0) return libvirt_error(fmt::format("checkpoints of VM '{}'", name_of(domain)));
  std::string newest;
  for (int i = 0; i < count; ++i) {
    const CheckpointHandle checkpoint(list[i]);
    const std::string name = virDomainCheckpointGetName(checkpoint.get());
    // Parents come first.
    if (name.starts_with(kCheckpointPrefix)) {
      newest = name.substr(std::string_view(kCheckpointPrefix).size());
    }
  }
  std::free(list);
  return newest;
}

Result<bool> has_checkpoint(virDomainPtr domain, const std::string& token) {
  const std::string name = kCheckpointPrefix + token;
  const CheckpointHandle found(virDomainCheckpointLookupByName(domain, name.c_str(), 0));
  if (found) return true;
  if (libvirt_error_number() == VIR_ERR_NO_DOMAIN_CHECKPOINT) return false;
  return libvirt_error(fmt::format("checkpoint {} of VM '{}'", name, name_of(domain)));
}

Error to_be_dropped() {
  return {.code = ErrorCode::kBusy, .what = "its checkpoints are to be dropped", .advice = ""};
}

}  // namespace

Result<std::unique_ptr<Points>> Points::open(const Where& where, Session& session,
                                             const Clock& clock) {
  FARSIDE_ASSIGN(auto quiesced, Marks::open(where.state_dir + "/quiesced"));
  FARSIDE_ASSIGN(auto forgotten, Marks::open(where.state_dir + "/forgotten"));
  FARSIDE_ASSIGN(auto off_tokens, OffTokens::open(where.state_dir + "/off"));
  return std::unique_ptr<Points>(new Points(where, session, clock, std::move(quiesced),
                                            std::move(off_tokens), std::move(forgotten)));
}

Result<OffPoint::Since> Points::resolve(virDomainPtr domain, const PointRequest& request) {
  OffPoint::Since since;
  const bool is_forgotten = forgotten_.has(request.vm_id);
  if (request.since.empty()) {
    if (is_forgotten) return since;
    FARSIDE_ASSIGN(since.base, newest_checkpoint(domain));
    return since;
  }
  FARSIDE_ASSIGN(since.token, place_.off_tokens.find(request.vm_id, request.since));
  since.base = since.token ? since.token->base : request.since;
  bool is_there = false;
  if (!since.base.empty() && !is_forgotten) {
    FARSIDE_ASSIGN(is_there, has_checkpoint(domain, since.base));
  }
  if (is_there) return since;
  if (!since.token) {
    return fail(ErrorCode::kTrackingLost,
                fmt::format("VM '{}' has no checkpoint {}{}", name_of(domain), kCheckpointPrefix,
                            request.since));
  }
  since.base.clear();
  return since;
}

// That a VM which runs now runs with the files that were looked at while it was off.
Status Points::check_disks(const OffToken& token, const DomainShape& shape) {
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk) continue;
    const auto before = std::ranges::find(token.disks, disk.name, &OffDiskState::name);
    FARSIDE_ASSIGN(const auto now, state_of_chain(disk.path));
    if (before != token.disks.end() && is_same_disk(before->chain, now)) continue;
    return fail(ErrorCode::kTrackingLost, fmt::format("disk {} of VM '{}' is another file than "
                                                      "before",
                                                      disk.name, shape.vm.name));
  }
  return {};
}

namespace {

// Whether the VM does not run any more, or again.  libvirt hears of the end of QEMU's monitor
// before it notes the end of QEMU.
bool has_changed(virDomainPtr domain, int run) {
  for (const Deadline deadline(std::chrono::seconds(5));;) {
    const int now = run_of(domain);
    if (now >= 0 ? now != run : !is_active(domain).value_or(true)) return true;
    if (!deadline.pause()) return false;
  }
}

// A cycle asks for it again as for what others are at.
Status not_yet(Status ended) {
  if (!ended && ended.error().code == ErrorCode::kTimeout) ended.error().code = ErrorCode::kBusy;
  return ended;
}

}  // namespace

Status Points::prepare(const std::string& vm_id, const Leftovers::CleanUp& clean_up) {
  place_.leftovers.add_if(vm_id, to_be_dropped(), [&] { return forgotten_.has(vm_id); });
  return not_yet(place_.leftovers.settle(vm_id, clean_up));
}

Result<std::unique_ptr<Point>> Points::create(virDomainPtr domain, const DomainShape& shape,
                                              const PointRequest& request,
                                              const Networks& networks) {
  FARSIDE_ASSIGN(const bool active, is_active(domain));
  if (!active) {
    FARSIDE_ASSIGN(const auto since, resolve(domain, request));
    return OffPoint::begin(domain, shape, request, since, networks, place_);
  }
  const int run = run_of(domain);
  auto point = of_running(domain, shape, request, networks);
  if (!point && point.error().code == ErrorCode::kPlatform && has_changed(domain, run)) {
    point.error().code = ErrorCode::kBusy;
    point.error().advice = "it was turned off in that moment; the next point is of what it is now";
  }
  return point;
}

Result<std::unique_ptr<Point>> Points::of_running(virDomainPtr domain, const DomainShape& shape,
                                                  const PointRequest& request,
                                                  const Networks& networks) {
  FARSIDE_TRY(not_yet(libvirt::end_backup(domain, place_)));
  FARSIDE_TRY(refuse_jobs(domain, shape));
  std::string base;
  if (!request.since.empty()) {
    FARSIDE_ASSIGN(const auto since, resolve(domain, request));
    if (since.base.empty()) {
      return fail(ErrorCode::kTrackingLost,
                  fmt::format("VM '{}' was off at its last point, and has been started since",
                              shape.vm.name));
    }
    if (since.token) FARSIDE_TRY(check_disks(*since.token, shape));
    base = since.base;
  }
  return BackupPoint::begin(domain, shape, request, base, networks, place_);
}

Status Points::forget(const std::string& vm_id) {
  const auto domain = place_.session.find(vm_id);
  if (!domain) {
    if (domain.error().code != ErrorCode::kNotFound) return fail(domain.error());
    FARSIDE_TRY(forgotten_.remove(vm_id));
    return place_.off_tokens.remove(vm_id);
  }
  // The mark first: from here on the checkpoints mean nothing, whatever comes in between.
  FARSIDE_ASSIGN(const std::string newest, newest_checkpoint(domain->get()));
  place_.leftovers.add(vm_id, to_be_dropped());
  if (!newest.empty()) FARSIDE_TRY(forgotten_.add(vm_id));
  FARSIDE_TRY(place_.off_tokens.remove(vm_id));
  return place_.leftovers.settle(vm_id,
                                 [&](const std::string&) { return clean_up(domain->get()); });
}

Status Points::clean_up(virDomainPtr domain) {
  const std::string id = uuid_of(domain);
  FARSIDE_ASSIGN(const bool active, is_active(domain));
  if (!active) {
    remove_files(id, place_);
    return place_.quiesced.remove(id);
  }
  const auto ended = libvirt::end_backup(domain, place_);
  const bool is_foreign = !ended && ended.error().code == ErrorCode::kBusy;
  if (!ended && !is_foreign) return ended;
  if (place_.quiesced.has(id) && virDomainFSThaw(domain, nullptr, 0, 0) < 0) {
    return libvirt_error(fmt::format("thaw the file systems of VM '{}'", name_of(domain)));
  }
  FARSIDE_TRY(place_.quiesced.remove(id));
  if (!forgotten_.has(id)) return {};
  if (is_foreign) return ended;
  FARSIDE_TRY(drop_checkpoints(domain, ""));
  return forgotten_.remove(id);
}

void Points::end_backup(virDomainPtr domain) {
  if (const auto ended = libvirt::end_backup(domain, place_); !ended) {
    log::warn("backup_not_ended", {{"vm", uuid_of(domain)}, {"error", ended.error()}});
  }
}

void Points::sweep(const Leftovers::CleanUp& clean_up) {
  for (const std::string& id : forgotten_.all()) {
    if (place_.leftovers.of(id)) continue;
    const auto domain = place_.session.find(id);
    if (!domain) {
      if (domain.error().code == ErrorCode::kNotFound) (void)forgotten_.remove(id);
      continue;
    }
    if (!is_active(domain->get()).value_or(false)) continue;
    place_.leftovers.add_if(id, to_be_dropped(), [&] { return forgotten_.has(id); });
  }
  place_.leftovers.sweep(clean_up);
}

void Points::remove_stray_files() {
  for (const std::string& folder : folders_of(place_)) remove_strays_in(folder);
}

void Points::remove_strays_in(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : entries_of(folder, error)) {
    const std::string name = entry.filename();
    const std::string id = name.substr(0, VIR_UUID_STRING_BUFLEN - 1);
    if (name.size() < VIR_UUID_STRING_BUFLEN - 1 || !is_uuid(id) || place_.leftovers.of(id))
      continue;
    // A VM that is there has been seen to; one that cannot be looked for may still use its file.
    const auto domain = place_.session.find(id);
    if (domain || domain.error().code != ErrorCode::kNotFound) continue;
    std::error_code ignored;
    std::filesystem::remove(entry, ignored);
  }
}

}  // namespace farside::agent::libvirt
