// Which share of a host shows which of its folders: paths as the host says them, and as SMB does.
//
// Thread: any; does not change.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace farside::agent::hyperv {

struct SharedFolder {
  std::string folder;  // "C:\VMs", as the host names it.
  std::string share;   // "vms"

  bool operator==(const SharedFolder&) const = default;
};

struct SharePath {
  std::string share;
  std::string path;  // Relative to it, with backslashes; empty: the share itself.

  bool operator==(const SharePath&) const = default;
};

class SharedFolders final {
 public:
  // Errors: kInvalidArgument (no absolute path, the same folder twice, none at all).
  static Result<SharedFolders> from(std::vector<SharedFolder> folders);

  // The deepest folder that holds the path, in any case.  "\\?\" in front does not matter.
  // Errors: kNotFound (no share shows it), kInvalidArgument (".." in it).
  Result<SharePath> locate(std::string_view path) const;

 private:
  explicit SharedFolders(std::vector<SharedFolder> folders) : folders_(std::move(folders)) {}

  std::vector<SharedFolder> folders_;
};

// "C:\VMs" and "web\disk.vhdx" make "C:\VMs\web\disk.vhdx".
std::string join_windows_path(std::string_view folder, std::string_view name);
// All but the last part, without a backslash at its end.
std::string windows_folder_of(std::string_view path);
// At any depth, in any case.
bool is_in_windows_folder(std::string_view path, std::string_view folder);
// `relative` from `folder` on, with its "." and ".." followed.
std::string resolve_windows_path(std::string_view folder, std::string_view relative);
// What leads from one folder to a file: "..\..\replicas\x\base.vhdx".  Empty: on another drive.
std::string relative_windows_path(std::string_view from_folder, std::string_view to_file);

}  // namespace farside::agent::hyperv
