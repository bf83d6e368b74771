// cut-disk MOUNTPOINT: a Volume mounted by FUSE.  Tells "mounted"; then obeys orders from its
// standard input, one a line, and answers each with a line; ends with its input.
//
//   after N      N - 1 more operations that change or sync anything succeed; then the power is off
//   on           it comes back, and nothing is forgotten
//   cut HOW SEED HOW is lost or torn; the power comes back
//   lie WHAT     see Volume::lie_about(); without WHAT: no more
//   state        answers "on" or "off", and how many syncs there were
#define FUSE_USE_VERSION 31
#include <fuse.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

#include "tests/support/cut_disk/volume.h"

namespace farside::test {
namespace {

struct Mounted {
  std::mutex mutex;
  Volume volume;
};

Mounted& mounted() {
  return *static_cast<Mounted*>(fuse_get_context()->private_data);
}

// What the kernel has no name for any more has the number of its open file.
Volume::Number number_of(const Volume& volume, const char* path, const fuse_file_info* file) {
  if (file != nullptr && file->fh != 0) return file->fh;
  return path == nullptr ? 0 : volume.find(path);
}

template <class Do>
int with(const char* path, const fuse_file_info* file, const Do& act) {
  Mounted& at = mounted();
  const std::lock_guard lock(at.mutex);
  if (at.volume.is_off()) return -EIO;
  const auto number = number_of(at.volume, path, file);
  return number == 0 ? -ENOENT : act(at.volume, number);
}

template <class Do>
int with_volume(const Do& act) {
  Mounted& at = mounted();
  const std::lock_guard lock(at.mutex);
  return act(at.volume);
}

// Nothing is cached by the kernel: it would survive the cut.
void* begin(fuse_conn_info*, fuse_config* config) {
  config->use_ino = 1;
  config->hard_remove = 1;
  config->entry_timeout = 0;
  config->negative_timeout = 0;
  config->attr_timeout = 0;
  config->direct_io = 1;
  return fuse_get_context()->private_data;
}

int get_attributes(const char* path, struct stat* to, fuse_file_info* file) {
  return with(path, file, [&](const Volume& volume, Volume::Number number) {
    return volume.attributes(number, *to);
  });
}

int read_folder(const char* path, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info*,
                fuse_readdir_flags) {
  return with(path, nullptr, [&](const Volume& volume, Volume::Number number) {
    const auto add = [&](const char* name) {
      fill(buffer, name, nullptr, 0, static_cast<fuse_fill_dir_flags>(0));
    };
    add(".");
    add("..");
    return volume.list(number, [&](const std::string& name, Volume::Number) { add(name.c_str()); });
  });
}

int make_folder(const char* path, mode_t mode) {
  Volume::Number made = 0;
  return with_volume(
      [&](Volume& volume) { return volume.make(path, (mode & 07777U) | S_IFDIR, made); });
}

int create(const char* path, mode_t mode, fuse_file_info* file) {
  return with_volume([&](Volume& volume) {
    Volume::Number made = 0;
    const int failed = volume.make(path, (mode & 07777U) | S_IFREG, made);
    file->fh = made;
    return failed;
  });
}

int open(const char* path, fuse_file_info* file) {
  return with(path, nullptr, [&](Volume& volume, Volume::Number number) {
    file->fh = number;
    return (file->flags & O_TRUNC) != 0 ? volume.resize(number, 0) : 0;
  });
}

int unlink(const char* path) {
  return with_volume([&](Volume& volume) { return volume.remove(path, false); });
}

int remove_folder(const char* path) {
  return with_volume([&](Volume& volume) { return volume.remove(path, true); });
}

int rename(const char* from, const char* to, unsigned flags) {
  if (flags != 0) return -EINVAL;
  return with_volume([&](Volume& volume) { return volume.rename(from, to); });
}

int link(const char* from, const char* to) {
  return with_volume([&](Volume& volume) { return volume.link(from, to); });
}

int set_mode(const char* path, mode_t mode, fuse_file_info* file) {
  return with(path, file,
              [&](Volume& volume, Volume::Number number) { return volume.set_mode(number, mode); });
}

int set_owner(const char* path, uid_t, gid_t, fuse_file_info* file) {
  return with(path, file, [](const Volume&, Volume::Number) { return 0; });
}

int set_times(const char* path, const timespec*, fuse_file_info* file) {
  return with(path, file, [](const Volume&, Volume::Number) { return 0; });
}

int truncate(const char* path, off_t bytes, fuse_file_info* file) {
  return with(path, file, [&](Volume& volume, Volume::Number number) {
    return volume.resize(number, static_cast<std::uint64_t>(bytes));
  });
}

int read(const char* path, char* to, std::size_t length, off_t offset, fuse_file_info* file) {
  return with(path, file, [&](const Volume& volume, Volume::Number number) {
    return volume.read(number, to, length, static_cast<std::uint64_t>(offset));
  });
}

int write(const char* path, const char* bytes, std::size_t length, off_t offset,
          fuse_file_info* file) {
  return with(path, file, [&](Volume& volume, Volume::Number number) {
    return volume.write(number, {bytes, length}, static_cast<std::uint64_t>(offset));
  });
}

int allocate(const char* path, int mode, off_t offset, off_t length, fuse_file_info* file) {
  return with(path, file, [&](Volume& volume, Volume::Number number) {
    return volume.allocate(number, mode, static_cast<std::uint64_t>(offset),
                           static_cast<std::uint64_t>(length));
  });
}

int sync_file(const char* path, int, fuse_file_info* file) {
  return with(path, file, [&](Volume& volume, Volume::Number number) {
    return volume.sync(number, path == nullptr ? "" : path);
  });
}

int sync_folder(const char* path, int, fuse_file_info*) {
  return with(path, nullptr,
              [](Volume& volume, Volume::Number number) { return volume.sync_folder(number); });
}

int room(const char*, struct statvfs* to) {
  *to = {};
  to->f_bsize = 4096;
  to->f_frsize = 4096;
  to->f_blocks = std::uint64_t{1} << 20U;
  to->f_bfree = to->f_blocks / 2;
  to->f_bavail = to->f_bfree;
  to->f_namemax = 255;
  return 0;
}

fuse_operations operations() {
  fuse_operations all{};
  all.getattr = get_attributes;
  all.mkdir = make_folder;
  all.unlink = unlink;
  all.rmdir = remove_folder;
  all.rename = rename;
  all.link = link;
  all.chmod = set_mode;
  all.chown = set_owner;
  all.truncate = truncate;
  all.open = open;
  all.read = read;
  all.write = write;
  all.statfs = room;
  all.fsync = sync_file;
  all.readdir = read_folder;
  all.fsyncdir = sync_folder;
  all.init = begin;
  all.create = create;
  all.utimens = set_times;
  all.fallocate = allocate;
  return all;
}

std::string obey(Volume& volume, const std::string& line) {
  std::istringstream words(line);
  std::string order;
  words >> order;
  if (order == "after") {
    std::uint64_t operations = 0;
    words >> operations;
    volume.power_off_after(operations);
  } else if (order == "on") {
    volume.go_on();
  } else if (order == "cut") {
    std::string how;
    std::uint64_t seed = 0;
    words >> how >> seed;
    volume.cut(how == "torn" ? Volume::Cut::kTorn : Volume::Cut::kLost, seed);
  } else if (order == "lie") {
    std::string what;
    words >> what;
    volume.lie_about(what);
  } else if (order != "state") {
    return "unknown order";
  }
  return (volume.is_off() ? "off " : "on ") + std::to_string(volume.syncs());
}

int run(const char* mountpoint) {
  Mounted at;
  char name[] = "cut-disk";
  char* arguments[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  const fuse_operations all = operations();
  fuse* handle = fuse_new(&args, &all, sizeof all, &at);
  if (handle == nullptr || fuse_mount(handle, mountpoint) != 0) {
    std::puts("cannot mount");
    return 1;
  }
  std::thread loop([&] { fuse_loop(handle); });
  std::puts("mounted");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::string answer;
    {
      const std::lock_guard lock(at.mutex);
      answer = obey(at.volume, line);
    }
    std::puts(answer.c_str());
    std::fflush(stdout);
  }
  // The loop ends with the process: it waits for the kernel, which waits for whoever uses files.
  ::umount2(mountpoint, MNT_DETACH);
  ::_exit(0);
}

}  // namespace
}  // namespace farside::test

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: cut-disk MOUNTPOINT\n", stderr);
    return 2;
  }
  return farside::test::run(argv[1]);
}
