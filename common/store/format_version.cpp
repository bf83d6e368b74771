#include "common/store/format_version.h"

#include "common/base/file.h"
#include "common/base/folder.h"

namespace farside::store {
namespace {

constexpr std::string_view kName = "format";
constexpr std::string_view kUs = "farside ";

std::string text_of(const Format& format) {
  return std::string(kUs) + format.kind + " " + std::to_string(format.version) + "\n";
}

// What says nothing of a form: our own mark, even half written, and what a fresh volume holds.
bool counts(const std::string& name) {
  return name != kName && name != std::string(kName) + ".new" && name != "lost+found";
}

Result<bool> is_empty(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : entries_of(folder, error)) {
    if (counts(entry.filename().string())) return false;
  }
  if (error) return fail(from_errno(error.value(), "list " + folder));
  return true;
}

}  // namespace

Status claim_folder(const std::string& folder, const Format& format) {
  const std::string path = folder + "/" + std::string(kName);
  const std::string wanted = text_of(format);
  FARSIDE_TRY(make_folders(folder));
  const auto found = read_file(path);
  // Whoever wrote it may have been killed before it was durable.
  if (found && *found == wanted) return sync_folder(folder);
  if (!found && found.error().code != ErrorCode::kNotFound) return fail(found.error());
  const std::string doing = "'" + folder + "' is not of this release's form: wanted \"" +
                            wanted.substr(0, wanted.size() - 1) + "\", found ";
  if (found) {
    const std::string is = found->substr(0, std::min<std::size_t>(found->find('\n'), 100));
    return fail(ErrorCode::kConflict, doing + "\"" + is + "\" in its file 'format'",
                "run the release that wrote it, or give this one a folder of its own");
  }
  FARSIDE_ASSIGN(const bool is_fresh, is_empty(folder));
  if (!is_fresh) {
    return fail(
        ErrorCode::kConflict, doing + "files but no file 'format'",
        "if an older release wrote it, run that one; if the folder is somebody else's, give "
        "this program an empty one");
  }
  return replace_file(path, wanted);
}

}  // namespace farside::store
