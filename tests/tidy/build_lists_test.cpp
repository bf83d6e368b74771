// CMake lists: every source is in one, and every test that the sanitizers should see is listed.
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "tests/tidy/sources.h"

namespace farside::tidy {
namespace {

std::string text_of(const SourceFile& file) {
  std::string text;
  for (const std::string& line : file.lines) text += line.substr(0, line.find('#')) + "\n";
  return text;
}

TEST(BuildListsTest, EverySourceIsInAListOfItsFolderOrOneAbove) {
  std::string orphans;
  for (const SourceFile& file : sources()) {
    if (!file.path.ends_with(".cpp") || file.is_under("deploy/")) continue;
    bool listed = false;
    for (std::string folder = folder_of(file.path); !listed && !folder.empty();
         folder = folder_of(folder)) {
      const SourceFile* list = find_source(folder + "/CMakeLists.txt");
      if (list == nullptr) continue;
      const std::string name = file.path.substr(folder.size() + 1);
      const std::string text = text_of(*list);
      // A fuzz target is listed by its name alone.
      const std::string stem = name.substr(0, name.size() - 4);
      listed = std::regex_search(
                   text, std::regex("[\\s(/]" + std::regex_replace(name, std::regex("\\."), "\\.") +
                                    "[\\s)]")) ||
               text.contains("farside_fuzz_target(" + stem + " ") || text.contains("GLOB");
    }
    if (!listed) orphans += file.path + "\n";
  }
  EXPECT_EQ(orphans, "");
}

TEST(BuildListsTest, UnitAndSimTestsAreBuiltForTheSanitizers) {
  std::string missing;
  for (const SourceFile& file : sources()) {
    if (!file.path.ends_with("CMakeLists.txt") || !file.is_under("tests/")) continue;
    const std::string text = text_of(file);
    static const std::regex kTest(R"(farside_test\((\w+)\s+LABEL\s+(\w+))");
    for (std::sregex_iterator test(text.begin(), text.end(), kTest), end; test != end; ++test) {
      const std::string name = (*test)[1];
      const std::string label = (*test)[2];
      static const std::set<std::string> kLabels{"unit", "contract",    "scenario",
                                                 "sim",  "integration", "e2e"};
      if (!kLabels.contains(label)) missing += name + ": no such label " + label + "\n";
      if (label != "unit" && label != "sim") continue;
      if (!std::regex_search(
              text, std::regex("add_dependencies\\(unit_and_sim[^)]*\\b" + name + "\\b"))) {
        missing += file.path + ": " + name + " is not in unit_and_sim\n";
      }
    }
  }
  EXPECT_EQ(missing, "");
}

}  // namespace
}  // namespace farside::tidy
