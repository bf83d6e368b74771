#include "tests/support/hvsim/host_files.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

namespace farside::hvsim {

namespace fs = std::filesystem;

Status HostFiles::prepare() const {
  std::error_code error;
  fs::remove_all(run(), error);
  for (const std::string& folder : {root_ + "/serial", run()}) {
    fs::create_directories(folder, error);
    if (error) return fail(ErrorCode::kIo, "make " + folder + ": " + error.message());
  }
  return make_folder_of(shared() + "/C/file");
}

Status HostFiles::make_folder_of(const std::string& file) {
  const fs::path folder = fs::path(file).parent_path();
  std::error_code error;
  if (fs::create_directories(folder, error)) fs::permissions(folder, fs::perms::all, error);
  if (error) return fail(ErrorCode::kIo, "make " + folder.string() + ": " + error.message());
  return {};
}

Result<std::string> HostFiles::file_of(const std::string& windows_path) const {
  const bool has_drive = windows_path.size() > 3 && windows_path.substr(1, 2) == ":\\" &&
                         std::isalpha(static_cast<unsigned char>(windows_path[0])) != 0;
  std::string rest = has_drive ? windows_path.substr(3) : "";
  std::ranges::replace(rest, '\\', '/');
  for (const fs::path& part : fs::path(rest)) {
    if (part == "..") rest.clear();
  }
  if (rest.empty()) return fail(ErrorCode::kInvalidArgument, "not a path: " + windows_path);
  return shared() + "/" + upper_case(windows_path.substr(0, 1)) + "/" + rest;
}

std::string lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::string upper_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace farside::hvsim
