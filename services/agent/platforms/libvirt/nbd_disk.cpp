#include "services/agent/platforms/libvirt/nbd_disk.h"

#include <fmt/core.h>
#include <libnbd.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace farside::agent::libvirt {
namespace {

constexpr const char* kAllocation = LIBNBD_CONTEXT_BASE_ALLOCATION;
constexpr std::uint64_t kQueryBytes = 1U << 30U;
constexpr std::uint64_t kReadBytesMax = 4U << 20U;
// Changed ranges closer than this share one question about what is allocated.
constexpr std::uint64_t kNearBytes = 16U << 20U;

void append(std::vector<Extent>& extents, Extent next) {
  if (next.length == 0) return;
  if (!extents.empty()) {
    Extent& last = extents.back();
    if (last.offset + last.length == next.offset && last.zero == next.zero) {
      last.length += next.length;
      return;
    }
  }
  extents.push_back(next);
}

// Splits `changed` into the parts that `data` covers and zeros.
void split(const Extent& changed, const std::vector<Extent>& data, std::vector<Extent>& out) {
  std::uint64_t at = changed.offset;
  const std::uint64_t end = changed.offset + changed.length;
  auto next = std::ranges::lower_bound(data, at, {}, [](const Extent& e) {
    return e.offset + e.length - 1;  // The first one that ends behind `at`.
  });
  for (; next != data.end() && next->offset < end; ++next) {
    const std::uint64_t from = std::max(at, next->offset);
    const std::uint64_t to = std::min(end, next->offset + next->length);
    append(out, {.offset = at, .length = from - at, .zero = true});
    append(out, {.offset = from, .length = to - from, .zero = false});
    at = to;
  }
  append(out, {.offset = at, .length = end - at, .zero = true});
}

struct BlockStatus {
  const char* context;
  std::vector<std::pair<std::uint64_t, std::uint32_t>> entries;  // Length, flags.
};

int take_block_status(void* user, const char* context, std::uint64_t, std::uint32_t* entries,
                      std::size_t count, int*) {
  auto& status = *static_cast<BlockStatus*>(user);
  if (std::strcmp(context, status.context) != 0) return 0;
  for (std::size_t i = 0; i + 1 < count; i += 2) {
    status.entries.emplace_back(entries[i], entries[i + 1]);
  }
  return 0;
}

}  // namespace

struct NbdDisk::Read {
  NbdDisk* disk;
  Done done;
  std::uint64_t offset;
};

void NbdDisk::Close::operator()(nbd_handle* handle) const {
  nbd_close(handle);
}

NbdDisk::~NbdDisk() = default;

Result<std::unique_ptr<NbdDisk>> NbdDisk::connect(NbdExport from) {
  std::unique_ptr<NbdDisk> disk(new NbdDisk(std::move(from)));
  if (!disk->from_.bitmap.empty()) disk->bitmap_ = "qemu:dirty-bitmap:" + disk->from_.bitmap;
  FARSIDE_ASSIGN(disk->data_, open(disk->from_, disk->bitmap_));
  const std::int64_t bytes = nbd_get_size(disk->data_.get());
  if (bytes < 0) {
    return fail(ErrorCode::kIo, fmt::format("size of {}: {}", disk->name(), nbd_get_error()));
  }
  disk->bytes_ = static_cast<std::uint64_t>(bytes);
  return disk;
}

bool NbdDisk::is_closed() const {
  pollfd socket{.fd = nbd_aio_get_fd(data_.get()), .events = POLLRDHUP, .revents = 0};
  return socket.fd < 0 ||
         (::poll(&socket, 1, 0) > 0 && (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0);
}

Result<NbdDisk::Handle> NbdDisk::open(const NbdExport& from, const std::string& context) {
  Handle handle(nbd_create());
  if (!handle) return fail(ErrorCode::kIo, fmt::format("NBD: {}", nbd_get_error()));
  // Only what a read that succeeded has filled is looked at.
  nbd_set_pread_initialize(handle.get(), false);
  bool is_open = nbd_set_export_name(handle.get(), from.name.c_str()) == 0;
  if (!context.empty()) {
    is_open = is_open && nbd_add_meta_context(handle.get(), context.c_str()) == 0;
  }
  is_open = is_open && nbd_connect_unix(handle.get(), from.socket.c_str()) == 0;
  if (!is_open) {
    return fail(ErrorCode::kUnavailable, fmt::format("open the frozen disk {} at {}: {}", from.name,
                                                     from.socket, nbd_get_error()));
  }
  if (!context.empty() && nbd_can_meta_context(handle.get(), context.c_str()) != 1) {
    return fail(ErrorCode::kPlatform,
                fmt::format("QEMU does not offer {} of disk {}", context, from.name));
  }
  return handle;
}

Result<std::vector<Extent>> NbdDisk::query(nbd_handle* handle, const std::string& context,
                                           std::uint64_t from, std::uint64_t to,
                                           bool (*is_wanted)(std::uint32_t flags)) {
  std::vector<Extent> wanted;
  while (from < to) {
    BlockStatus status{.context = context.c_str(), .entries = {}};
    const nbd_extent_callback callback{
        .callback = take_block_status, .user_data = &status, .free = nullptr};
    if (nbd_block_status(handle, std::min(kQueryBytes, to - from), from, callback, 0) != 0) {
      return fail(ErrorCode::kIo, fmt::format("map of disk {}: {}", name(), nbd_get_error()));
    }
    const std::uint64_t before = from;
    for (const auto& [length, flags] : status.entries) {
      const std::uint64_t end = std::min(to, from + length);  // An answer may reach further.
      if (is_wanted(flags)) append(wanted, {.offset = from, .length = end - from, .zero = false});
      from = end;
    }
    if (from == before) {
      return fail(ErrorCode::kIo, fmt::format("map of disk {}: the answer is empty", name()));
    }
  }
  return wanted;
}

Result<std::vector<Extent>> NbdDisk::non_zero(std::uint64_t from, std::uint64_t to) {
  if (!allocation_) {
    FARSIDE_ASSIGN(allocation_, open(from_, kAllocation));
  }
  return query(allocation_.get(), kAllocation, from, to,
               [](std::uint32_t flags) { return (flags & LIBNBD_STATE_ZERO) == 0; });
}

Result<std::vector<Extent>> NbdDisk::allocated() {
  return non_zero(0, bytes_);
}

Result<std::vector<Extent>> NbdDisk::changes() {
  if (bitmap_.empty()) return allocated();
  FARSIDE_ASSIGN(const auto changed, query(data_.get(), bitmap_, 0, bytes_,
                                           [](std::uint32_t flags) { return flags != 0; }));
  std::vector<Extent> out;
  for (std::size_t first = 0; first < changed.size();) {
    std::size_t last = first;
    const auto end_of = [&](std::size_t i) { return changed[i].offset + changed[i].length; };
    while (last + 1 < changed.size() && changed[last + 1].offset - end_of(last) <= kNearBytes) {
      ++last;
    }
    FARSIDE_ASSIGN(const auto data, non_zero(changed[first].offset, end_of(last)));
    for (; first <= last; ++first) split(changed[first], data, out);
  }
  return out;
}

Status NbdDisk::read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) {
  if (length == 0 || length > kReadBytesMax || offset > bytes_ || length > bytes_ - offset) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("disk {}: cannot read {} bytes at {}", name(), length, offset));
  }
  auto* read = new Read{.disk = this, .done = std::move(done), .offset = offset};
  const nbd_completion_callback callback{
      .callback = finished, .user_data = read, .free = [](void* user) {
        delete static_cast<Read*>(user);
      }};
  ++under_way_;
  if (nbd_aio_pread(data_.get(), to, length, offset, callback, 0) < 0) {
    // libnbd has freed `read` without calling it.
    --under_way_;
    return fail(ErrorCode::kIo, fmt::format("read disk {}: {}", name(), nbd_get_error()));
  }
  return {};
}

int NbdDisk::finished(void* user, int* error) {
  auto& read = *static_cast<Read*>(user);
  Status status;
  if (*error != 0) {
    status = fail(ErrorCode::kIo, fmt::format("read disk {} at {}: {}", read.disk->name(),
                                              read.offset, std::strerror(*error)));
  }
  --read.disk->under_way_;
  read.disk->finished_.push_back({.done = std::move(read.done), .status = std::move(status)});
  return 1;  // Nobody will ask for this command again.
}

Status NbdDisk::poll(int timeout_ms) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  Status status;
  for (int left = timeout_ms; finished_.empty() && under_way_ > 0;) {
    if (nbd_poll(data_.get(), left) < 0) {
      status = fail(ErrorCode::kIo, fmt::format("read disk {}: {}", name(), nbd_get_error()));
      break;
    }
    const auto now = std::chrono::steady_clock::now();
    if (now >= until) break;
    left = static_cast<int>(
        std::chrono::duration_cast<std::chrono::milliseconds>(until - now).count());
  }
  // A completion may start further reads, and thereby finish more of them.
  for (Finished& each : std::exchange(finished_, {})) each.done(std::move(each.status));
  return status;
}

}  // namespace farside::agent::libvirt
