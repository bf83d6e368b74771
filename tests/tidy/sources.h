// The tree as its rules see it: every file that is ours, with its lines.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace farside::tidy {

struct SourceFile {
  std::string path;  // From the top: "common/base/clock.h".
  std::vector<std::string> lines;

  bool is_code() const { return path.ends_with(".h") || path.ends_with(".cpp"); }
  bool is_under(std::string_view folder) const { return path.starts_with(folder); }
};

// Text files of the tree, sorted; without .git, build folders and the corpora of the fuzzers.
const std::vector<SourceFile>& sources();
const SourceFile* find_source(const std::string& path);

// "file:12: what is wrong" for each line that breaks a rule; `rule` returns what, or nothing.
std::string violations(const std::function<bool(const SourceFile&)>& applies,
                       const std::function<std::string(const std::string& line)>& rule);

std::string folder_of(const std::string& path);

}  // namespace farside::tidy
