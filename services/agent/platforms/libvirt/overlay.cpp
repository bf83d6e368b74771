#include "services/agent/platforms/libvirt/overlay.h"

#include <fmt/core.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <system_error>

#include "common/base/file.h"
#include "services/agent/platforms/libvirt/program.h"

namespace farside::agent::libvirt {

using std::chrono::seconds;

Status create_overlay(const NewDisk& disk) {
  const std::string folder = std::filesystem::path(disk.overlay_path).parent_path().string();
  // Whoever made it may have been killed before its name was durable.
  if (::access(disk.overlay_path.c_str(), F_OK) == 0) return sync_folder(folder);
  // The view is not opened: it is named in the domain as well, with how to reconnect to it.
  const std::string view =
      fmt::format("nbd+unix:///{}?socket={}", disk.nbd_export, disk.nbd_socket);
  const std::string half_made = disk.overlay_path + ".new";
  FARSIDE_ASSIGN(const auto made,
                 run_program({"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b",
                              view, half_made, std::to_string(disk.bytes)},
                             seconds(30)));
  if (made.exit_code != 0) {
    return fail(ErrorCode::kPlatform, fmt::format("create {}: {}", disk.overlay_path, made.output));
  }
  FARSIDE_ASSIGN(const File file, File::open_to_write(half_made));
  FARSIDE_TRY(file.sync());
  std::error_code error;
  std::filesystem::rename(half_made, disk.overlay_path, error);
  if (error) {
    return fail(ErrorCode::kIo, fmt::format("create {}: {}", disk.overlay_path, error.message()));
  }
  return sync_folder(folder);
}

}  // namespace farside::agent::libvirt
