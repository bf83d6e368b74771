#include "tests/tidy/sources.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace farside::tidy {
namespace {

namespace fs = std::filesystem;

bool is_skipped_folder(const fs::path& path) {
  const std::string name = path.filename();
  return name == ".git" || name == "corpus" || name == "node_modules" ||
         name.starts_with("build") || name == "__pycache__";
}

bool is_text(const fs::path& path) {
  static const std::vector<std::string> kEndings{
      ".h",   ".cpp",  ".capnp", ".txt", ".md", ".sh",   ".py",  ".json", ".toml",
      ".yml", ".yaml", ".html",  ".css", ".js", ".supp", ".mjs", ""};
  return std::ranges::find(kEndings, path.extension().string()) != kEndings.end();
}

std::vector<SourceFile> read_all() {
  std::vector<SourceFile> files;
  const fs::path top(FARSIDE_SOURCE);
  for (auto entry = fs::recursive_directory_iterator(top); entry != fs::end(entry); ++entry) {
    if (entry->is_directory()) {
      if (is_skipped_folder(entry->path())) entry.disable_recursion_pending();
      continue;
    }
    if (!entry->is_regular_file() || !is_text(entry->path())) continue;
    SourceFile file{.path = fs::relative(entry->path(), top).string(), .lines = {}};
    std::ifstream in(entry->path());
    for (std::string line; std::getline(in, line);) file.lines.push_back(line);
    files.push_back(std::move(file));
  }
  std::ranges::sort(files, {}, &SourceFile::path);
  return files;
}

}  // namespace

const std::vector<SourceFile>& sources() {
  static const std::vector<SourceFile> kSources = read_all();
  return kSources;
}

const SourceFile* find_source(const std::string& path) {
  const auto found = std::ranges::lower_bound(sources(), path, {}, &SourceFile::path);
  return found != sources().end() && found->path == path ? &*found : nullptr;
}

std::string violations(const std::function<bool(const SourceFile&)>& applies,
                       const std::function<std::string(const std::string&)>& rule) {
  std::string out;
  for (const SourceFile& file : sources()) {
    if (!applies(file)) continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      const std::string wrong = rule(file.lines[i]);
      if (!wrong.empty()) out += file.path + ":" + std::to_string(i + 1) + ": " + wrong + "\n";
    }
  }
  return out;
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

}  // namespace farside::tidy
