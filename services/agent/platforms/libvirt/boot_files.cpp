#include "services/agent/platforms/libvirt/boot_files.h"

#include <fmt/core.h>

#include <filesystem>
#include <system_error>

#include "common/base/file_name.h"

namespace farside::agent::libvirt {
namespace {

namespace fs = std::filesystem;

// A comma ends a name on QEMU's command line.
bool is_plain_name(const std::string& name) {
  return is_file_name(name) && !name.contains(',');
}

}  // namespace

Result<std::string> boot_file(const std::string& folder, const std::string& name) {
  if (!is_plain_name(name)) {
    return fail(ErrorCode::kForbidden,
                fmt::format("'{}' is not the plain name of a file to boot from", name),
                "upgrade the agent of the source, which must name files only");
  }
  if (folder.empty()) {
    return fail(ErrorCode::kForbidden,
                fmt::format("it boots from the kernel file '{}' of its host, and this host has no "
                            "folder for such files",
                            name),
                "let the VM boot from its disks, or set libvirt.boot_folder on the target host to "
                "a folder with that file");
  }
  std::error_code error;
  const fs::path inside = fs::canonical(folder, error);
  const fs::path path = error ? fs::path() : fs::canonical(inside / name, error);
  if (error) {
    return fail(ErrorCode::kNotFound,
                fmt::format("it boots from '{}', which is not in {}", name, folder),
                "copy that file there");
  }
  if (path.parent_path() != inside || !fs::is_regular_file(path, error)) {
    return fail(ErrorCode::kForbidden,
                fmt::format("'{}' in {} is no regular file of that folder", name, folder),
                "put the file itself there, not a link to another place");
  }
  return path.string();
}

}  // namespace farside::agent::libvirt
