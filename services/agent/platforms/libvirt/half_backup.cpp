#include "services/agent/platforms/libvirt/half_backup.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "services/agent/platforms/libvirt/backup_point.h"
#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/qemu_monitor.h"

namespace farside::agent::libvirt {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kWithin{10};
constexpr std::string_view kBackup = "backup-";
constexpr std::string_view kStorage = "-storage";

// libvirt waits for nobody else's jobs here: a guest's own (a copy of its storage) has another
// name.
Status end_jobs(QemuMonitor& monitor) {
  for (const Deadline deadline{kWithin};;) {
    FARSIDE_ASSIGN(const json jobs, monitor.execute("query-jobs"));
    bool any = false;
    for (const json& job : jobs) {
      const std::string id = job.value("id", "");
      if (!id.starts_with(kBackup)) continue;
      any = true;
      const json which{{"id", id}};
      // It may have ended meanwhile, or ended by itself: then it is to be dismissed.
      const bool concluded = job.value("status", "") == "concluded";
      std::ignore = monitor.execute(concluded ? "job-dismiss" : "job-cancel", which);
    }
    if (!any) return {};
    if (!deadline.pause()) {
      return fail(ErrorCode::kTimeout, "a backup job that was half begun does not end");
    }
  }
}

// Our scratch images, and nothing that the guest has.
Status remove_images(QemuMonitor& monitor, const json& nodes) {
  for (const json& node : nodes) {
    const std::string storage = node.value("node-name", "");
    if (!storage.ends_with(kStorage) || !node.value("file", "").ends_with(kScratchSuffix)) continue;
    const std::string format = storage.substr(0, storage.size() - kStorage.size()) + "-format";
    for (const std::string& name : {format, storage}) {
      const bool is_there = std::ranges::any_of(
          nodes, [&](const json& one) { return one.value("node-name", "") == name; });
      if (!is_there) continue;
      FARSIDE_TRY(monitor.execute("blockdev-del", {{"node-name", name}}));
    }
  }
  return {};
}

Status remove_bitmaps(QemuMonitor& monitor, const json& nodes, const std::string& checkpoints) {
  for (const json& node : nodes) {
    for (const json& bitmap : node.value("dirty-bitmaps", json::array())) {
      const std::string name = bitmap.value("name", "");
      std::error_code error;  // A checkpoint that cannot be looked at stays.
      const bool is_unknown = name.starts_with(kCheckpointPrefix) &&
                              !std::filesystem::exists(checkpoints + "/" + name + ".xml", error) &&
                              !error;
      if (!name.starts_with(kBackup) && !is_unknown) continue;
      FARSIDE_TRY(monitor.execute("block-dirty-bitmap-remove",
                                  {{"node", node.value("node-name", "")}, {"name", name}}));
    }
  }
  return {};
}

}  // namespace

Status take_back_half_backup(const std::string& path, const std::string& checkpoints) {
  try {
    FARSIDE_ASSIGN(QemuMonitor monitor, QemuMonitor::open(path, kWithin));
    FARSIDE_TRY(end_jobs(monitor));
    std::ignore = monitor.execute("nbd-server-stop");  // With its exports; it may not run.
    FARSIDE_ASSIGN(const json nodes, monitor.execute("query-named-block-nodes", {{"flat", true}}));
    FARSIDE_TRY(remove_images(monitor, nodes));
    return remove_bitmaps(monitor, nodes, checkpoints);
  } catch (const json::exception& error) {  // A QEMU may answer anything.
    return fail(ErrorCode::kCorrupt, std::string("QEMU's monitor answers oddly: ") + error.what());
  }
}

}  // namespace farside::agent::libvirt
