// An nbdkit plug-in: serves all disks of one replica as they were at one recovery point, read-only.
// The export's name is the disk's.
//
//   nbdkit -r farside_view.so folder=<replica> index=<frozen index> seq=<point>
//
// Reads never touch the agent: a frozen copy of the index, the segments and the base disks are all
// it needs, and the pin that Item::pin() made keeps those as they are.  Every block is verified
// against its hash before any byte of it is given out.
//
// Thread: requests run concurrently; the cache has a mutex.
#define NBDKIT_API_VERSION 2
#include <fcntl.h>
#include <nbdkit-plugin.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "common/base/file.h"
#include "common/schema/replica.plain.h"
#include "common/store/rocks_store.h"
#include "services/agent/replica_store/point_reader.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace farside::replica {
namespace {

constexpr std::size_t kCachedBlocksMax = 1024;      // 64 MiB of unpacked blocks.
constexpr std::uint64_t kExtentBlocksMax = 65'536;  // One answer covers 4 GiB at most.

// Guests read small pieces of a block one after the other; unpack it once.
class BlockCache {
 public:
  using Bytes = std::unique_ptr<char[]>;

  bool copy(std::uint64_t key, std::size_t from, std::span<char> to) {
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(key);
    if (found == blocks_.end()) return false;
    order_.splice(order_.begin(), order_, found->second);
    std::memcpy(to.data(), found->second->bytes.get() + from, to.size());
    return true;
  }
  void keep(std::uint64_t key, Bytes bytes) {
    const std::lock_guard lock(mutex_);
    if (blocks_.contains(key)) return;
    if (order_.size() == kCachedBlocksMax) {
      blocks_.erase(order_.back().key);
      order_.pop_back();
    }
    order_.push_front({.key = key, .bytes = std::move(bytes)});
    blocks_[key] = order_.begin();
  }

 private:
  struct Block {
    std::uint64_t key;
    Bytes bytes;
  };
  std::mutex mutex_;
  std::list<Block> order_;  // Most recently used first.
  std::unordered_map<std::uint64_t, std::list<Block>::iterator> blocks_;
};

struct View {
  std::string folder;
  std::string index_folder;
  std::uint64_t seq = 0;
  std::unique_ptr<store::RocksStore> index;
  std::unique_ptr<PointReader> reader;
  std::vector<msg::PointDisk> disks;  // Of the point.
  BlockCache cache;
};

View* view = nullptr;

struct Connection {
  std::uint16_t disk;  // Its number in the replica.
  std::uint64_t bytes;
};

int refuse(const Error& error) {
  nbdkit_error("%s", to_text(error).c_str());
  nbdkit_set_error(error.code == ErrorCode::kInvalidArgument ? EINVAL : EIO);
  return -1;
}

void load() {
  view = new View;
}
void unload() {
  delete view;
  view = nullptr;
}

int config(const char* key, const char* value) {
  const std::string_view name = key;
  if (name == "folder") {
    char* path = nbdkit_absolute_path(value);
    if (path == nullptr) return -1;
    view->folder = path;
    std::free(path);
  } else if (name == "index") {
    char* path = nbdkit_absolute_path(value);
    if (path == nullptr) return -1;
    view->index_folder = path;
    std::free(path);
  } else if (name == "seq") {
    return nbdkit_parse_uint64_t("seq", value, &view->seq);
  } else {
    nbdkit_error("unknown parameter '%s'; there are folder, index and seq", key);
    return -1;
  }
  return 0;
}

int config_complete() {
  if (!view->folder.empty() && !view->index_folder.empty() && view->seq != 0) return 0;
  nbdkit_error("folder=, index= and seq= are needed");
  return -1;
}

// Runs after nbdkit went to the background, if it does: RocksDB's threads would not survive that.
int after_fork() {
  raise_open_files_limit();  // Segments, bases and the index: nobody else is served from here.
  auto index = store::RocksStore::open(view->index_folder, store::RocksStore::Mode::kReadOnly);
  if (!index) return refuse(index.error());
  const auto stored = (*index)->get(kReplica, kReplica);
  if (!stored) return refuse(stored.error());
  if (!*stored) return refuse({.code = ErrorCode::kNotFound, .what = "no replica", .advice = {}});
  auto replica = msg::decode<msg::StoredReplica>(**stored);
  if (!replica) return refuse(replica.error());
  const auto point = (*index)->get(kPoints, number_key(view->seq, 8));
  if (!point) return refuse(point.error());
  if (!*point) {
    return refuse({.code = ErrorCode::kNotFound,
                   .what = "no point " + std::to_string(view->seq) + " of " + replica->item,
                   .advice = {}});
  }
  const auto stored_point = msg::decode<msg::StoredPoint>(**point);
  if (!stored_point) return refuse(stored_point.error());
  const auto shape = (*index)->get(kShapes, number_key(stored_point->shape, 4));
  if (!shape) return refuse(shape.error());
  if (!*shape) {
    return refuse(
        {.code = ErrorCode::kCorrupt,
         .what = "the index lacks what point " + std::to_string(view->seq) + " consists of",
         .advice = {}});
  }
  auto stored_shape = msg::decode<msg::StoredShape>(**shape);
  if (!stored_shape) return refuse(stored_shape.error());
  view->disks = std::move(stored_shape->disks);
  view->index = std::move(*index);
  const auto hash = BlockHash::with_key(replica->hash_key);
  if (!hash) return refuse(hash.error());
  view->reader = std::make_unique<PointReader>(*view->index, view->folder, *replica, *hash);
  return 0;
}

int list_exports(int, int, nbdkit_exports* exports) {
  for (const msg::PointDisk& each : view->disks) {
    if (nbdkit_add_export(exports, each.disk.name.c_str(), nullptr) == -1) return -1;
  }
  return 0;
}

const char* default_export(int, int) {
  return view->disks.empty() ? "" : view->disks.front().disk.name.c_str();
}

void* open(int) {
  const char* name = nbdkit_export_name();
  if (name == nullptr) return nullptr;
  const std::string wanted = *name == '\0' ? default_export(1, 0) : name;
  const auto found = std::ranges::find(view->disks, wanted,
                                       [](const msg::PointDisk& each) { return each.disk.name; });
  if (found == view->disks.end()) {
    nbdkit_error("the recovery point has no disk '%s'", name);
    return nullptr;
  }
  return new Connection{.disk = found->number, .bytes = found->disk.bytes};
}

void close(void* handle) {
  delete static_cast<Connection*>(handle);
}

std::uint16_t disk_of(void* handle) {
  return static_cast<Connection*>(handle)->disk;
}

std::uint64_t bytes_of(void* handle) {
  return static_cast<Connection*>(handle)->bytes;
}

std::int64_t get_size(void* handle) {
  return static_cast<std::int64_t>(bytes_of(handle));
}

int block_size(void*, std::uint32_t* minimum, std::uint32_t* preferred, std::uint32_t* maximum) {
  *minimum = 1;
  *preferred = kBlockBytes;
  *maximum = 32U << 20U;
  return 0;
}

int yes(void*) {
  return 1;
}

int pread(void* handle, void* buffer, std::uint32_t count, std::uint64_t offset, std::uint32_t) {
  const std::uint16_t disk = disk_of(handle);
  std::span<char> to(static_cast<char*>(buffer), count);
  while (!to.empty()) {
    const auto block = static_cast<std::uint32_t>(offset / kBlockBytes);
    const std::size_t skip = offset % kBlockBytes;
    const std::size_t part = std::min<std::size_t>(to.size(), kBlockBytes - skip);
    const std::uint64_t key = (std::uint64_t{disk} << 32U) | block;
    if (!view->cache.copy(key, skip, to.first(part))) {
      if (part == kBlockBytes) {  // A large read: nobody will come back for the rest of the block.
        const Status read = view->reader->read_block(disk, block, view->seq, to.first(part));
        if (!read) return refuse(read.error());
      } else {
        auto whole = std::make_unique_for_overwrite<char[]>(kBlockBytes);
        const Status read =
            view->reader->read_block(disk, block, view->seq, {whole.get(), kBlockBytes});
        if (!read) return refuse(read.error());
        std::memcpy(to.data(), whole.get() + skip, part);
        view->cache.keep(key, std::move(whole));
      }
    }
    to = to.subspan(part);
    offset += part;
  }
  return 0;
}

int extents(void* handle, std::uint32_t count, std::uint64_t offset, std::uint32_t,
            nbdkit_extents* out) {
  const std::uint16_t disk = disk_of(handle);
  const std::uint64_t bytes = bytes_of(handle);
  const std::uint64_t first = offset / kBlockBytes;
  const std::uint64_t end =
      std::min({blocks_of(bytes), (offset + count + kBlockBytes - 1) / kBlockBytes,
                first + kExtentBlocksMax});
  std::uint64_t next = first;  // Blocks below have been told of.
  bool failed = false;
  const auto tell = [&](std::uint64_t until, bool data) {
    if (until <= next || failed) return;
    const std::uint64_t from = next * kBlockBytes;
    // Never beyond what was asked: nbdkit 1.32 aborts on extents of 4 GiB and more.
    const std::uint64_t to = std::min(offset + count, until * kBlockBytes);
    const std::uint32_t type = data ? 0U : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
    failed = nbdkit_add_extent(out, from, to - from, type) == -1;
    next = until;
  };
  const Status listed = view->reader->for_each(disk, view->seq, static_cast<std::uint32_t>(first),
                                               end, [&](const Version& version) {
                                                 if (version.entry.codec == Codec::kZero)
                                                   return true;
                                                 tell(version.key.block, false);
                                                 tell(std::uint64_t{version.key.block} + 1, true);
                                                 return !failed;
                                               });
  if (!listed) return refuse(listed.error());
  tell(end, false);
  return failed ? -1 : 0;
}

}  // namespace
}  // namespace farside::replica

namespace fr = farside::replica;

extern "C" {

static nbdkit_plugin plugin = [] {
  nbdkit_plugin p{};
  p.name = "farside-view";
  p.longname = "Farside recovery point";
  p.description = "serves a replica's disks as they were at one recovery point";
  p.load = fr::load;
  p.unload = fr::unload;
  p.config = fr::config;
  p.config_complete = fr::config_complete;
  p.config_help = "folder=<replica> index=<frozen index> seq=<recovery point>";
  p.after_fork = fr::after_fork;
  p.list_exports = fr::list_exports;
  p.default_export = fr::default_export;
  p.open = fr::open;
  p.close = fr::close;
  p.get_size = fr::get_size;
  p.block_size = fr::block_size;
  p.can_multi_conn = fr::yes;
  p.can_extents = fr::yes;
  p.pread = fr::pread;
  p.extents = fr::extents;
  return p;
}();

NBDKIT_REGISTER_PLUGIN(plugin)
}
