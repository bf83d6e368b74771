#include "services/agent/platforms/hyperv/shared_folders.h"

#include <fmt/format.h>

#include <algorithm>

namespace farside::agent::hyperv {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_same(std::string_view left, std::string_view right) {
  return std::ranges::equal(left, right, {}, lower, lower);
}

// Backslashes only, none at the end, without the mark of a long path.
std::string normal(std::string_view path) {
  std::string out(path);
  std::ranges::replace(out, '/', '\\');
  if (out.starts_with(R"(\\?\)")) out.erase(0, 4);
  while (out.ends_with('\\')) out.pop_back();
  return out;
}

bool is_absolute(std::string_view path) {
  const bool has_drive =
      path.size() >= 2 && path[1] == ':' && (path.size() == 2 || path[2] == '\\');
  return has_drive || (path.starts_with(R"(\\)") && path.size() > 2);
}

// They live as long as what they are parts of.
std::vector<std::string_view> parts_of(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('\\'), path.size());
    if (end > 0) parts.push_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return parts;
}

}  // namespace

Result<SharedFolders> SharedFolders::from(std::vector<SharedFolder> folders) {
  if (folders.empty()) {
    return fail(ErrorCode::kInvalidArgument, "no folder of the host is shared with this agent",
                "name a [[hyperv.share]] for each folder that holds disks");
  }
  for (SharedFolder& one : folders) {
    one.folder = normal(one.folder);
    if (!is_absolute(one.folder) || one.share.empty()) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("share '{}' of folder '{}'", one.share, one.folder),
                  R"(write the folder as the host names it, like C:\VMs, and the share's name)");
    }
    if (std::ranges::count_if(folders, [&](const SharedFolder& other) {
          return is_same(normal(other.folder), one.folder);
        }) > 1) {
      return fail(ErrorCode::kInvalidArgument, "folder '" + one.folder + "' is shared twice");
    }
  }
  std::ranges::sort(folders, std::ranges::greater(),
                    [](const SharedFolder& one) { return one.folder.size(); });
  return SharedFolders(std::move(folders));
}

Result<SharePath> SharedFolders::locate(std::string_view path) const {
  const std::string wanted = normal(path);
  for (const std::string_view part : parts_of(wanted)) {
    if (part != "..") continue;
    return fail(ErrorCode::kInvalidArgument, "path '" + wanted + "' leads upwards");
  }
  for (const auto& [folder, share] : folders_) {
    if (wanted.size() < folder.size() || !is_same(wanted.substr(0, folder.size()), folder))
      continue;
    if (wanted.size() == folder.size()) return SharePath{.share = share, .path = {}};
    if (wanted[folder.size()] != '\\') continue;
    return SharePath{.share = share, .path = wanted.substr(folder.size() + 1)};
  }
  return fail(ErrorCode::kNotFound, "no share shows '" + wanted + "' to this agent",
              "share its folder on the host and name it as a [[hyperv.share]]");
}

std::string join_windows_path(std::string_view folder, std::string_view name) {
  return normal(folder) + "\\" + normal(name);
}

std::string windows_folder_of(std::string_view path) {
  const std::string whole = normal(path);
  const std::size_t last = whole.rfind('\\');
  return last == std::string::npos ? "" : whole.substr(0, last);
}

bool is_in_windows_folder(std::string_view path, std::string_view folder) {
  const std::string inside = normal(path);
  const std::string around = normal(folder) + "\\";
  return inside.size() > around.size() &&
         is_same(std::string_view(inside).substr(0, around.size()), around);
}

std::string resolve_windows_path(std::string_view folder, std::string_view relative) {
  std::string path = normal(folder);
  const std::string way = normal(relative);
  for (const std::string_view part : parts_of(way)) {
    if (part == ".") continue;
    if (part == "..") {
      path = windows_folder_of(path);
    } else {
      path += "\\" + std::string(part);
    }
  }
  return path;
}

std::string relative_windows_path(std::string_view from_folder, std::string_view to_file) {
  const std::string from = normal(from_folder);
  const std::string to = normal(to_file);
  const auto up = parts_of(from);
  const auto down = parts_of(to);
  std::size_t common = 0;
  while (common < up.size() && common + 1 < down.size() && is_same(up[common], down[common])) {
    ++common;
  }
  if (common == 0) return {};
  std::string out;
  for (std::size_t i = common; i < up.size(); ++i) out += "..\\";
  for (std::size_t i = common; i < down.size(); ++i) {
    out += std::string(down[i]) + (i + 1 < down.size() ? "\\" : "");
  }
  return common == up.size() ? ".\\" + out : out;
}

}  // namespace farside::agent::hyperv
