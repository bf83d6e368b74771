#include "services/agent/platforms/libvirt/moved_disks.h"

#include <fmt/core.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/base/file.h"
#include "common/base/log.h"
#include "services/agent/platforms/deadline.h"
#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"
#include "services/agent/platforms/libvirt/image_file.h"
#include "services/agent/platforms/libvirt/nbd_disk.h"
#include "services/agent/platforms/libvirt/program.h"
#include "services/agent/platforms/libvirt/qcow2_map.h"
#include "services/agent/platforms/libvirt/transform.h"

namespace farside::agent::libvirt {
namespace {

using std::chrono::seconds;

constexpr seconds kPartMax(5);
constexpr std::uint64_t kCheckBytes = std::uint64_t{1} << 30U;  // Between looks at the clock.
// What the proof of a disk counts for in the progress, beside the copy: 1/64 of it, and one for
// each of two syncs.
constexpr std::uint64_t kProofShare = 64;
constexpr std::uint64_t kSyncs = 2;
constexpr unsigned kWholeXml = VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE;

std::uint64_t proof_units(const DiskShape& disk) {
  return disk.bytes / kProofShare + kSyncs;
}

std::string file_of(const std::string& folder, const std::string& vm_id) {
  return fmt::format("{}/{}.json", folder, vm_id);
}

// What QEMU may call the front end of a disk, by its bus.
// Source: libvirt, qemu_alias.c, qemuAssignDeviceDiskAlias.
std::vector<std::string> device_names(const std::string& alias) {
  return {alias + "/virtio-backend", alias, fmt::format("{0}/{0}.0/legacy[0]", alias)};
}

// Writes what QEMU holds of a disk in memory, tables above all, and syncs it.  The monitor's own
// command for that: it asks nothing about images, needs no job, and works while the guest stands.
Status flush_through_qemu(virDomainPtr domain, const DiskShape& disk) {
  std::string answers;
  for (const std::string& device : device_names(disk.alias)) {
    char* answer = nullptr;
    const std::string command = fmt::format("qemu-io -d {} flush", device);
    if (virDomainQemuMonitorCommand(domain, command.c_str(), &answer,
                                    VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP) != 0) {
      return libvirt_error(fmt::format("flush disk {} of VM '{}'", disk.name, name_of(domain)));
    }
    std::string words = take_text(answer);
    if (words.empty()) return {};
    answers += words;
  }
  return fail(ErrorCode::kPlatform,
              fmt::format("QEMU does not flush disk {} of VM '{}': {}", disk.name, name_of(domain),
                          answers),
              "shut the VM down, which writes everything, and start it again");
}

Status sync_all(const std::vector<File>& files) {
  for (const File& file : files) {
    FARSIDE_TRY(file.sync());
    FARSIDE_TRY(sync_folder(std::filesystem::path(file.path()).parent_path().string()));
  }
  return {};
}

// The files of a disk, topmost first.  Errors: kUnsupported (one stands on what is no file).
Result<std::vector<std::string>> files_of(const DiskShape& disk) {
  std::vector<std::string> files;
  if (disk.path.empty()) return files;  // Somebody moved it to another kind of storage.
  if (disk.format != "qcow2") return std::vector{disk.path};
  FARSIDE_ASSIGN(const auto chain, state_of_chain(disk.path));
  for (const FileState& file : chain) files.push_back(file.path);
  return files;
}

// What no file of the chain says anything about.
Result<std::vector<Extent>> unmapped(const std::vector<std::string>& files, std::uint64_t from,
                                     std::uint64_t to) {
  std::vector<Extent> left{{.offset = from, .length = to - from, .zero = false}};
  for (const std::string& path : files) {
    if (left.empty()) break;
    const auto map = Qcow2Map::open(path);
    // Only the last one may be of another form, and that one has all blocks.
    if (!map && map.error().code == ErrorCode::kUnsupported && path != files.front()) return {};
    if (!map) return fail(map.error().in(path));
    std::vector<Extent> further;
    for (const Extent& part : left) {
      FARSIDE_ASSIGN(const auto here, map->unmapped(part.offset, part.offset + part.length));
      further.insert(further.end(), here.begin(), here.end());
    }
    left = std::move(further);
  }
  return left;
}

bool stands_on_view(const std::string& path) {
  const auto header = read_qcow2_header(path);
  return header && header->backing.starts_with("nbd");
}

}  // namespace

Result<std::unique_ptr<MovedDisks>> MovedDisks::open(const std::string& state_dir) {
  FARSIDE_TRY(make_folders(state_dir + "/moving"));
  FARSIDE_ASSIGN(auto moved, Marks::open(state_dir + "/moved"));
  return std::unique_ptr<MovedDisks>(new MovedDisks(state_dir + "/moving", std::move(moved)));
}

Status MovedDisks::forget(const std::string& vm_id) {
  {
    const std::lock_guard lock(mutex_);
    proofs_.erase(vm_id);
  }
  FARSIDE_TRY(moved_.remove(vm_id));
  return forget_views(vm_id);
}

Status MovedDisks::forget_views(const std::string& vm_id) {
  std::error_code error;
  const bool was_there = std::filesystem::remove(file_of(folder_, vm_id), error);
  if (error) return fail(from_errno(error.value(), "remove " + file_of(folder_, vm_id)));
  return was_there ? sync_folder(folder_) : Status{};
}

Result<MovedDisks::Views> MovedDisks::views_of(const std::string& vm_id) const {
  const std::string path = file_of(folder_, vm_id);
  const auto text = read_file(path);
  if (!text && text.error().code == ErrorCode::kNotFound) return Views{};
  if (!text) return fail(text.error());
  const auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const auto text_of = [](const nlohmann::json& view, const char* key) {
    const auto found = view.find(key);
    return found != view.end() && found->is_string() ? found->get<std::string>() : "";
  };
  Views views;
  if (!json.is_object()) return fail(ErrorCode::kCorrupt, path + " cannot be understood");
  for (const auto& [disk, view] : json.items()) {
    views[disk] = {.socket = text_of(view, "socket"), .name = text_of(view, "export")};
    if (views[disk].socket.empty()) {
      return fail(ErrorCode::kCorrupt, path + " cannot be understood");
    }
  }
  return views;
}

// Before the first pull: afterwards nothing else knows what a disk stood on.
Status MovedDisks::remember(const DomainShape& shape) {
  FARSIDE_ASSIGN(Views views, views_of(shape.vm.id));
  const Views before = views;
  for (const DiskShape& disk : shape.disks) {
    if (disk.reads_network_view) views[disk.name] = disk.view;
  }
  if (views == before) return {};
  FARSIDE_TRY(forget(shape.vm.id));
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [disk, view] : views) {
    json[disk] = {{"socket", view.socket}, {"export", view.name}};
  }
  return replace_file(file_of(folder_, shape.vm.id), json.dump());
}

Result<BlockProgress> MovedDisks::move(virDomainPtr domain, const DomainShape& shape) {
  FARSIDE_ASSIGN(const bool active, is_active(domain));
  FARSIDE_TRY(remember(shape));
  FARSIDE_ASSIGN(auto progress, pull(domain, shape, active));
  if (!progress.finished) {
    const std::lock_guard lock(mutex_);
    proofs_.erase(shape.vm.id);  // What was flushed before says nothing about this copy.
    return progress;
  }
  if (moved_.has(shape.vm.id)) {
    progress.done = progress.total;
    return progress;
  }
  FARSIDE_ASSIGN(auto views, views_of(shape.vm.id));
  FARSIDE_ASSIGN(
      progress,
      prove({.shape = shape, .domain = domain, .is_active = active, .views = std::move(views)}));
  if (!progress.finished) return progress;
  FARSIDE_TRY(moved_.add(shape.vm.id));
  FARSIDE_TRY(forget_views(shape.vm.id));
  return progress;
}

Result<BlockProgress> MovedDisks::pull(virDomainPtr domain, const DomainShape& shape,
                                       bool is_active) {
  BlockProgress progress{.finished = true};
  for (const DiskShape& disk : shape.disks) {
    if (disk.is_writable_disk) progress.total += disk.bytes + proof_units(disk);
    if (!disk.reads_network_view) {
      progress.done += disk.bytes;
      continue;
    }
    // One disk after the other: to start copying one in the instant in which another ends may crash
    // QEMU 7.2.
    if (!progress.finished) continue;
    progress.finished = false;
    if (!is_active) {
      return fail(ErrorCode::kConflict,
                  fmt::format("VM '{}' is off; its blocks are copied while it runs", shape.vm.name),
                  "start the VM");
    }
    virDomainBlockJobInfo job{};
    const int jobs = virDomainGetBlockJobInfo(domain, disk.name.c_str(), &job, 0);
    if (jobs < 0) return libvirt_error(fmt::format("progress of disk {}", disk.name));
    if (jobs == 0 && virDomainBlockPull(domain, disk.name.c_str(), 0, 0) != 0 &&
        libvirt_error_number() != VIR_ERR_OPERATION_INVALID) {
      return libvirt_error(
          fmt::format("copy disk {} of VM '{}' from its view", disk.name, shape.vm.name));
    }
    progress.done += std::min<std::uint64_t>(job.cur, disk.bytes);
  }
  return progress;
}

Result<BlockProgress> MovedDisks::prove(const Vm& vm) {
  BlockProgress progress{.finished = true};
  for (const DiskShape& disk : vm.shape.disks) {
    if (!disk.is_writable_disk) continue;
    Disk proof;
    {
      const std::lock_guard lock(mutex_);
      proof = proofs_[vm.shape.vm.id][disk.name];
    }
    const auto done = progress.finished ? prove(vm, disk, proof) : Result<bool>(false);
    if (!done) return fail(done.error());
    {
      const std::lock_guard lock(mutex_);
      proofs_[vm.shape.vm.id][disk.name] = proof;
    }
    progress.finished = progress.finished && *done;
    progress.total += disk.bytes + proof_units(disk);
    progress.done += disk.bytes + proof.checked / kProofShare + (proof.is_synced ? 1 : 0) +
                     (proof.is_flushed ? 1 : 0);
  }
  return progress;
}

Result<bool> MovedDisks::prove(const Vm& vm, const DiskShape& disk, Disk& proof) {
  const auto view = vm.views.find(disk.name);
  if (!vm.is_active && view != vm.views.end() && stands_on_view(disk.path)) {
    // The file stands on it, and libvirt does not know: one of the two steps was all there was.
    return fail(stand_on_view(vm, disk, view->second).error());
  }
  FARSIDE_ASSIGN(const auto files, files_of(disk));
  if (!proof.is_synced || !proof.is_flushed) {
    FARSIDE_TRY(sync(vm, disk, files, proof));
    return false;
  }
  const bool has_map = disk.format == "qcow2" && !disk.path.empty();
  if (!has_map) proof.checked = disk.bytes;
  const Deadline part(kPartMax);
  while (proof.checked < disk.bytes && !part.passed()) {
    FARSIDE_TRY(check(vm, disk, files, proof));
  }
  return proof.checked >= disk.bytes;
}

// First what can be written without QEMU, whose guest stands while it syncs.  A file that is open
// before QEMU writes to it tells of every error since, whoever else has heard of it.
Status MovedDisks::sync(const Vm& vm, const DiskShape& disk, const std::vector<std::string>& files,
                        Disk& proof) {
  std::vector<File> open;
  for (const std::string& path : files) {
    FARSIDE_ASSIGN(auto file, File::open_to_read(path));
    open.push_back(std::move(file));
  }
  FARSIDE_TRY(sync_all(open));
  if (!proof.is_synced) {
    proof.is_synced = true;
    return {};
  }
  if (vm.is_active) {
    FARSIDE_TRY(flush_through_qemu(vm.domain, disk));
    FARSIDE_TRY(sync_all(open));
  }
  proof.is_flushed = true;
  return {};
}

// QEMU enters even blocks of zeros.  Whatever one of another version leaves out, or a copy that the
// VM's owner had made, may lack what is zeros in the view, and nothing else.
Status MovedDisks::check(const Vm& vm, const DiskShape& disk, const std::vector<std::string>& files,
                         Disk& proof) {
  const std::uint64_t end = std::min(disk.bytes, proof.checked + kCheckBytes);
  FARSIDE_ASSIGN(auto missing, unmapped(files, proof.checked, end));
  const auto view = vm.views.find(disk.name);
  if (!missing.empty() && view != vm.views.end()) {
    FARSIDE_ASSIGN(
        const auto original,
        NbdDisk::connect(
            {.socket = view->second.socket, .name = view->second.name, .id = {}, .bitmap = {}}));
    std::vector<Extent> data;
    for (const Extent& each : missing) {
      if (each.offset >= original->bytes()) continue;
      FARSIDE_ASSIGN(
          const auto here,
          original->non_zero(each.offset, std::min(each.offset + each.length, original->bytes())));
      data.insert(data.end(), here.begin(), here.end());
    }
    missing = std::move(data);
  }
  if (!missing.empty()) return lost(vm, disk, missing.front());
  proof.checked = end;
  return {};
}

Status MovedDisks::lost(const Vm& vm, const DiskShape& disk, const Extent& first) {
  const auto view = vm.views.find(disk.name);
  const auto& overlays = vm.shape.overlays;
  const bool is_overlay = std::ranges::find(overlays, disk.path) != overlays.end();
  if (!vm.is_active && is_overlay && view != vm.views.end()) {
    return stand_on_view(vm, disk, view->second);
  }
  return fail(ErrorCode::kCorrupt,
              fmt::format("disk {} of VM '{}' lacks blocks of its recovery point, the first one at "
                          "byte {}: QEMU ended before they were written",
                          disk.name, vm.shape.vm.name, first.offset),
              "its replica is kept; shut the VM down, copy what its guest has written since, and "
              "start it again from its recovery point");
}

// Blocks that QEMU had not entered are read from the view once more; those that it had are durable,
// for it syncs them before the table that names them.  Never succeeds: says what to do next.
Status MovedDisks::stand_on_view(const Vm& vm, const DiskShape& disk, const ViewSource& view) {
  const std::string source = fmt::format("nbd+unix:///{}?socket={}", view.name, view.socket);
  FARSIDE_ASSIGN(const auto done, run_program({"qemu-img", "rebase", "-u", "-f", "qcow2", "-F",
                                               "raw", "-b", source, disk.path},
                                              seconds(30)));
  if (done.exit_code != 0) {
    return fail(ErrorCode::kPlatform, fmt::format("rebase {}: {}", disk.path, done.output));
  }
  FARSIDE_ASSIGN(const File file, File::open_to_read(disk.path));
  FARSIDE_TRY(file.sync());
  const std::string xml = take_text(virDomainGetXMLDesc(vm.domain, kWholeXml));
  if (xml.empty()) return libvirt_error("describe VM '" + vm.shape.vm.name + "'");
  FARSIDE_ASSIGN(const std::string changed, with_view(xml, disk.name, view));
  const DomainHandle defined(virDomainDefineXML(virDomainGetConnect(vm.domain), changed.c_str()));
  if (!defined) return libvirt_error("define VM '" + vm.shape.vm.name + "'");
  log::warn("disk_reads_its_view_again", {{"vm", vm.shape.vm.id}, {"disk", disk.name}});
  const std::lock_guard lock(mutex_);
  proofs_.erase(vm.shape.vm.id);
  return fail(ErrorCode::kConflict,
              fmt::format("disk {} of VM '{}' reads its view again: QEMU ended before all blocks "
                          "were written",
                          disk.name, vm.shape.vm.name),
              "start the VM; they are copied once more");
}

Status MovedDisks::before_start(virDomainPtr domain, const DomainShape& shape) {
  FARSIDE_ASSIGN(auto views, views_of(shape.vm.id));
  if (views.empty()) return {};
  FARSIDE_ASSIGN(const bool active, is_active(domain));
  if (active) return {};
  const Vm vm{.shape = shape, .domain = domain, .is_active = false, .views = std::move(views)};
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk || disk.reads_network_view) continue;
    Disk proof{.is_synced = true, .is_flushed = true, .checked = 0};
    const Deadline deadline{seconds(kCallSeconds / 2)};
    for (;;) {
      const auto done = prove(vm, disk, proof);
      // It stands on its view again: as it should.
      if (!done && done.error().code == ErrorCode::kConflict) break;
      if (!done) return fail(done.error());
      if (*done) break;
      if (!deadline.passed()) continue;
      return fail(ErrorCode::kBusy, fmt::format("the map of {} is being read", disk.path),
                  "it is tried again");
    }
  }
  return {};
}

Result<std::string> with_view(const std::string& xml, const std::string& name,
                              const ViewSource& view) {
  constexpr std::string_view kEnd = "</backingStore>";
  constexpr std::string_view kNone = "<backingStore/>";
  const auto target = xml.find(fmt::format("<target dev='{}'", xml_escape(name)));
  const auto disk = target == std::string::npos ? target : xml.rfind("<disk", target);
  if (disk == std::string::npos) {
    return fail(ErrorCode::kPlatform, fmt::format("the VM has no disk {} any more", name));
  }
  std::string inside = xml.substr(disk, target - disk);
  if (const auto begin = inside.find("<backingStore"); begin != std::string::npos) {
    const auto nested = inside.rfind(kEnd);
    const auto end = nested == std::string::npos ? inside.find(kNone, begin) + kNone.size()
                                                 : nested + kEnd.size();
    inside.erase(begin, end - begin);
  }
  inside += view_xml(view.socket, view.name);
  return xml.substr(0, disk) + inside + xml.substr(target);
}

}  // namespace farside::agent::libvirt
