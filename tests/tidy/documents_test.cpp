// Documents: their links lead somewhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>

#include "tests/tidy/sources.h"

namespace farside::tidy {
namespace {

// "## What it keeps, and why" -> "what-it-keeps-and-why", as Markdown viewers name headings.
std::string anchor_of(const std::string& heading) {
  std::string out;
  for (const char c : heading) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '_' || byte >= 0x80) {
      out += static_cast<char>(std::tolower(byte));
    } else if (c == ' ') {
      out += '-';
    }
  }
  return out;
}

std::set<std::string> anchors_of(const SourceFile& document) {
  std::set<std::string> anchors;
  for (const std::string& line : document.lines) {
    const std::size_t text = line.find_first_not_of('#');
    if (text == std::string::npos || text == 0 || line[text] != ' ') continue;
    anchors.insert(anchor_of(line.substr(text + 1)));
  }
  return anchors;
}

TEST(DocumentsTest, EveryLinkLeadsSomewhere) {
  static const std::regex kLink(R"(\]\(([^)\s]+)\))");
  std::string dead;
  for (const SourceFile& file : sources()) {
    if (!file.path.ends_with(".md")) continue;
    bool in_code = false;
    for (const std::string& line : file.lines) {
      if (line.starts_with("```")) in_code = !in_code;
      if (in_code) continue;
      for (std::sregex_iterator link(line.begin(), line.end(), kLink), end; link != end; ++link) {
        const std::string target = (*link)[1];
        if (target.contains("://") || target.starts_with("mailto:")) continue;
        const std::size_t hash = std::min(target.find('#'), target.size());
        const std::filesystem::path place =
            hash == 0 ? std::filesystem::path(file.path)
                      : std::filesystem::path(folder_of(file.path)) / target.substr(0, hash);
        const std::string path = place.lexically_normal();
        if (!std::filesystem::exists(std::filesystem::path(FARSIDE_SOURCE) / path)) {
          dead += file.path + ": " + target + "\n";
          continue;
        }
        const SourceFile* document = find_source(path);
        if (hash < target.size() && document != nullptr && path.ends_with(".md") &&
            !anchors_of(*document).contains(target.substr(hash + 1))) {
          dead += file.path + ": no heading for " + target + "\n";
        }
      }
    }
  }
  EXPECT_EQ(dead, "");
}

}  // namespace
}  // namespace farside::tidy
