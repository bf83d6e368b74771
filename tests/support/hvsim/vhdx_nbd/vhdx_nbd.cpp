// An nbdkit plug-in: serves the disk of a VHDX file, and of its parents if it is a differencing
// one, to read and to write.  QEMU, which knows no differencing files, has its disks from here when
// it plays the part of a VM of a Hyper-V host.
//
//   nbdkit vhdx_nbd.so file=<VHDX file> [root=<folder>]
//
// A parent is looked for by its relative path from its child's folder; and, with root, by its
// absolute path: C:\a\b.vhdx is <folder>/a/b.vhdx.  With -r nothing is written.  The files are
// opened by the first client; the top one must have no children (see WritableImage), and is closed
// when nbdkit ends.
//
// Thread: one request at a time.
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "services/agent/platforms/hyperv/vhdx/chain.h"
#include "services/agent/platforms/hyperv/vhdx/local_file.h"
#include "services/agent/platforms/hyperv/vhdx/writable_image.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

namespace farside::hvsim {
namespace {

namespace fs = std::filesystem;
namespace vhdx = agent::vhdx;

struct Served {
  std::string file;
  std::string root;
  SystemRandom random;
  std::unique_ptr<vhdx::Chain> chain;
  vhdx::WritableImage* writable = nullptr;  // The chain's top; none: read-only.
};

Served* served = nullptr;

int refuse(const Error& error) {
  nbdkit_error("%s", to_text(error).c_str());
  nbdkit_set_error(error.code == ErrorCode::kInvalidArgument ? EINVAL
                   : error.code == ErrorCode::kNoSpace       ? ENOSPC
                                                             : EIO);
  return -1;
}

int answer(const Status& done) {
  return done ? 0 : refuse(done.error());
}

void load() {
  served = new Served;
}
void unload() {
  delete served;
  served = nullptr;
}

int config(const char* key, const char* value) {
  const std::string_view name = key;
  if (name != "file" && name != "root") {
    nbdkit_error("unknown parameter '%s'; there are file and root", key);
    return -1;
  }
  char* path = nbdkit_absolute_path(value);
  if (path == nullptr) return -1;
  (name == "file" ? served->file : served->root) = path;
  std::free(path);
  return 0;
}

int config_complete() {
  if (!served->file.empty()) return 0;
  nbdkit_error("file= is needed");
  return -1;
}

std::string with_slashes(std::string path) {
  std::ranges::replace(path, '\\', '/');
  return path;
}

// "\\?\C:\a\b" -> "a/b"; empty: there is no drive.
std::string below_drive(std::string path) {
  path = with_slashes(std::move(path));
  if (path.starts_with("//?/")) path = path.substr(4);
  if (path.size() < 4 || path[1] != ':' || path[2] != '/') return {};
  return path.substr(3);
}

// Parents are asked for from the top down: each is looked for from the one before.
vhdx::ParentOpener parent_opener() {
  return [child = fs::path(served->file)](const vhdx::ParentLocator& locator) mutable
             -> Result<std::unique_ptr<agent::hyperv::ByteFile>> {
    const std::string below = below_drive(locator.absolute_win32_path);
    fs::path found;
    if (!locator.relative_path.empty()) {
      found = child.parent_path() / with_slashes(locator.relative_path);
    }
    std::error_code ignored;
    const bool is_there = !found.empty() && fs::exists(found, ignored);
    if (!is_there && !served->root.empty() && !below.empty()) {
      found = fs::path(served->root) / below;
    }
    child = found;
    return vhdx::LocalFile::open(found, vhdx::LocalFile::Mode::kRead);
  };
}

Status open_chain(bool read_only) {
  using Mode = vhdx::LocalFile::Mode;
  FARSIDE_ASSIGN(auto file,
                 vhdx::LocalFile::open(served->file, read_only ? Mode::kRead : Mode::kReadWrite));
  std::unique_ptr<vhdx::Image> top;
  vhdx::WritableImage* writable = nullptr;
  if (read_only) {
    FARSIDE_ASSIGN(top, vhdx::Image::open(std::move(file)));
  } else {
    FARSIDE_ASSIGN(auto image, vhdx::WritableImage::open(std::move(file), vhdx::HasNoChildren{},
                                                         served->random));
    writable = image.get();
    top = std::move(image);
  }
  FARSIDE_ASSIGN(served->chain, vhdx::Chain::open(std::move(top), parent_opener()));
  served->writable = writable;
  return {};
}

void* open(int read_only) {
  if (served->chain == nullptr) {
    if (const Status opened = open_chain(read_only != 0); !opened) {
      refuse(opened.error());
      return nullptr;
    }
  }
  return served;
}

// Runs when all clients have gone.
void cleanup() {
  if (served->writable == nullptr) return;
  if (const Status closed = served->writable->close(); !closed) refuse(closed.error());
}

std::int64_t get_size(void*) {
  return static_cast<std::int64_t>(served->chain->disk_bytes());
}

int block_size(void*, std::uint32_t* minimum, std::uint32_t* preferred, std::uint32_t* maximum) {
  *minimum = served->chain->image(0).metadata().logical_sector_bytes;
  *preferred = served->chain->image(0).metadata().physical_sector_bytes;
  *maximum = 32U << 20U;
  return 0;
}

int yes(void*) {
  return 1;
}
int can_write(void*) {
  return served->writable != nullptr ? 1 : 0;
}
int can_fua(void*) {
  return served->writable != nullptr ? NBDKIT_FUA_EMULATE : NBDKIT_FUA_NONE;
}

int pread(void*, void* buffer, std::uint32_t count, std::uint64_t offset, std::uint32_t) {
  return answer(served->chain->read_at(offset, {static_cast<char*>(buffer), count}));
}

int pwrite(void*, const void* buffer, std::uint32_t count, std::uint64_t offset, std::uint32_t) {
  return answer(served->writable->write_at(offset, {static_cast<const char*>(buffer), count}));
}

int zero(void*, std::uint32_t count, std::uint64_t offset, std::uint32_t) {
  return answer(served->writable->zero(offset, count));
}

// A wish, not an order: only blocks that it covers give back their space.
int trim(void*, std::uint32_t count, std::uint64_t offset, std::uint32_t) {
  const std::uint64_t block = served->chain->image(0).metadata().block_bytes;
  const std::uint64_t first = (offset + block - 1) / block * block;
  const std::uint64_t end = (offset + count) / block * block;
  return first < end ? answer(served->writable->zero(first, end - first)) : 0;
}

int flush(void*, std::uint32_t) {
  return answer(served->writable->flush());
}

int extents(void*, std::uint32_t count, std::uint64_t offset, std::uint32_t, nbdkit_extents* out) {
  const auto found = served->chain->allocated(offset, count);
  if (!found) return refuse(found.error());
  for (const vhdx::Extent& extent : *found) {
    const std::uint32_t type = extent.is_zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0U;
    if (nbdkit_add_extent(out, extent.offset, extent.length, type) == -1) return -1;
  }
  return 0;
}

}  // namespace
}  // namespace farside::hvsim

namespace fh = farside::hvsim;

extern "C" {

static nbdkit_plugin plugin = [] {
  nbdkit_plugin p{};
  p.name = "vhdx-nbd";
  p.longname = "VHDX disk";
  p.description = "serves the disk of a VHDX file and of its parents";
  p.load = fh::load;
  p.unload = fh::unload;
  p.config = fh::config;
  p.config_complete = fh::config_complete;
  p.config_help = "file=<VHDX file> [root=<folder that stands for C:\\>]";
  p.open = fh::open;
  p.cleanup = fh::cleanup;
  p.get_size = fh::get_size;
  p.block_size = fh::block_size;
  p.can_write = fh::can_write;
  p.can_flush = fh::can_write;
  p.can_trim = fh::can_write;
  p.can_zero = fh::can_write;
  p.can_fua = fh::can_fua;
  p.can_multi_conn = fh::yes;  // All of them share the files, and what is in memory of them.
  p.can_extents = fh::yes;
  p.pread = fh::pread;
  p.pwrite = fh::pwrite;
  p.zero = fh::zero;
  p.trim = fh::trim;
  p.flush = fh::flush;
  p.extents = fh::extents;
  return p;
}();

NBDKIT_REGISTER_PLUGIN(plugin)
}
