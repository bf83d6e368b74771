#include "services/agent/platforms/hyperv/tracking.h"

#include <algorithm>
#include <filesystem>

#include "common/base/file.h"
#include "common/base/file_name.h"
#include "common/base/folder.h"
#include "common/base/log.h"

namespace farside::agent::hyperv {

Result<Tracking> Tracking::open(std::string folder) {
  FARSIDE_TRY(make_folders(folder));
  return Tracking(std::move(folder));
}

Result<msg::StoredTracking> Tracking::load(const std::string& vm_id) const {
  FARSIDE_TRY(check_file_name("VM", vm_id));
  msg::StoredTracking empty{.vm = vm_id};
  const auto bytes = read_file(path_of(vm_id));
  if (!bytes) {
    if (bytes.error().code == ErrorCode::kNotFound) return empty;
    return fail(bytes.error());
  }
  auto tracking = msg::decode<msg::StoredTracking>(*bytes);
  if (tracking && tracking->vm == vm_id) return std::move(*tracking);
  log::error("tracking_record_damaged", {{"vm", vm_id}, {"file", path_of(vm_id)}});
  return empty;
}

Status Tracking::save(const msg::StoredTracking& tracking) const {
  FARSIDE_TRY(check_file_name("VM", tracking.vm));
  const bool is_empty =
      tracking.open.token.empty() && tracking.points.empty() && tracking.dropped.empty();
  if (!is_empty) return replace_file(path_of(tracking.vm), encode(tracking));
  std::error_code error;
  std::filesystem::remove(path_of(tracking.vm), error);
  if (error) return fail(from_errno(error.value(), "remove " + path_of(tracking.vm)));
  return sync_folder(folder_);
}

std::vector<std::string> Tracking::vms() const {
  std::vector<std::string> ids;
  std::error_code error;
  for (const auto& entry : entries_of(folder_, error)) {
    if (entry.extension() != ".new") ids.push_back(entry.filename().string());
  }
  std::ranges::sort(ids);
  return ids;
}

}  // namespace farside::agent::hyperv
