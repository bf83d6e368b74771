#include "services/agent/platforms/libvirt/off_point.h"

#include <fmt/core.h>

#include <algorithm>

#include "services/agent/platforms/libvirt/definition.h"
#include "services/agent/platforms/libvirt/domain_jobs.h"
#include "services/agent/platforms/libvirt/off_disk.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"

namespace farside::agent::libvirt {
namespace {

std::unexpected<Error> tracking_lost(const std::string& what) {
  return fail(ErrorCode::kTrackingLost, what);
}

// Whether the images can still be compared with what they were at `token`.
Status check_same_disks(const OffToken& token, const OffToken& now, const std::string& vm) {
  const bool is_same =
      std::ranges::equal(token.disks, now.disks, [](const auto& before, const auto& after) {
        return before.name == after.name && is_same_disk(before.chain, after.chain);
      });
  if (is_same) return {};
  return tracking_lost(fmt::format("the disks of VM '{}' are other files than before", vm));
}

}  // namespace

OffPoint::OffPoint(std::string vm_id, std::string name, BackupPlace& place)
    : vm_id_(std::move(vm_id)), name_(std::move(name)), place_(place) {}

Result<std::unique_ptr<Point>> OffPoint::begin(virDomainPtr domain, const DomainShape& shape,
                                               const PointRequest& request, const Since& since,
                                               const Networks& networks, BackupPlace& place) {
  std::unique_ptr<OffPoint> point(new OffPoint(request.vm_id, shape.vm.name, place));
  point->token_ = {.token = request.token, .base = since.base, .disks = {}};
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk) continue;
    FARSIDE_ASSIGN(auto chain, still_chain(disk.path, place.clock));
    const auto header = read_qcow2_header(disk.path);
    if (!header) return fail(header.error().in(disk.path));
    point->token_.disks.push_back(
        {.name = disk.name, .bytes = header->bytes, .chain = std::move(chain)});
  }
  point->captured_at_ = place.clock.now();
  if (point->is_lost()) return fail(point->loss());
  // QEMU is running for a while before it opens its images.
  FARSIDE_ASSIGN(const bool active, is_active(domain));
  if (active) return fail(point->loss());
  FARSIDE_ASSIGN(point->definition_, capture_definition(domain, networks, /*with_nvram=*/true));
  FARSIDE_TRY(point->open_disks(shape, request, since));
  // From here on its token may be asked for, whoever dies meanwhile.
  FARSIDE_TRY(place.off_tokens.add(request.vm_id, point->token_));
  return point;
}

Status OffPoint::open_disks(const DomainShape& shape, const PointRequest& request,
                            const Since& since) {
  bool is_unchanged = false;
  if (since.token) {
    is_unchanged = since.token->disks == token_.disks;
    if (!is_unchanged) {
      FARSIDE_TRY(check_same_disks(*since.token, token_, name_));
      if (since.base.empty()) {
        return tracking_lost(fmt::format(
            "VM '{}' has run since its last point, which was taken while it was off", name_));
      }
    }
  }
  const bool has_bitmap = !request.since.empty() && !is_unchanged;
  for (const OffDiskState& state : token_.disks) {
    const auto found = std::ranges::find(shape.disks, state.name, &DiskShape::name);
    auto disk = std::make_unique<OffDisk>(
        OffDisk::What{.name = state.name,
                      .id = found == shape.disks.end() ? "" : found->id,
                      .bytes = state.bytes,
                      .path = state.chain.front().path,
                      .socket = fmt::format("{}/{}.{}", place_.scratch_dir, vm_id_, disks_.size()),
                      .bitmap = has_bitmap ? kCheckpointPrefix + since.base : "",
                      .is_unchanged = is_unchanged});
    if (!is_unchanged) FARSIDE_TRY(disk->open());
    disks_.push_back(std::move(disk));
  }
  return {};
}

bool OffPoint::is_lost() {
  if (is_lost_) return true;
  is_lost_ = std::ranges::any_of(token_.disks, [](const OffDiskState& disk) {
    return std::ranges::any_of(disk.chain,
                               [](const FileState& file) {
                                 const auto now = state_of_file(file.path);
                                 return !now || *now != file;
                               }) ||
           has_writer(disk.chain.front().path);
  });
  return is_lost_;
}

Error OffPoint::loss() {
  return {.code = ErrorCode::kBusy,
          .what = fmt::format(
              "VM '{}' was started, or its disks were written to, while its point was read", name_),
          .advice = "nothing needs to be done: the next point is taken from the VM as it is then"};
}

Status OffPoint::close() {
  if (is_ended_) return {};
  if (is_lost()) return fail(loss());
  disks_.clear();
  FARSIDE_TRY(place_.off_tokens.replace_all(vm_id_, token_));
  is_ended_ = true;
  return {};
}

// Its token stays, also if the point was lost: what was written since is told by the next one all
// the same, as the token has the state of the files before.
Status OffPoint::abandon() {
  disks_.clear();
  is_ended_ = true;
  return {};
}

}  // namespace farside::agent::libvirt
