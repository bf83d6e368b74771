// Lines: their width, and words that have a better replacement.
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "tests/tidy/sources.h"

namespace farside::tidy {
namespace {

// Code points, as an editor shows them.
std::size_t columns(const std::string& line) {
  std::size_t count = 0;
  for (const char c : line) count += (static_cast<unsigned char>(c) & 0xc0U) != 0x80U ? 1 : 0;
  return count;
}

bool is_schema_or_code(const SourceFile& file) {
  return file.is_code() || file.path.ends_with(".capnp");
}

TEST(WordsTest, NoLineIsWiderThanAHundredColumns) {
  EXPECT_EQ(violations(is_schema_or_code,
                       [](const std::string& line) -> std::string {
                         // A link cannot be broken.
                         if (columns(line) <= 100 || line.contains("https://")) return {};
                         return std::to_string(columns(line)) + " columns";
                       }),
            "");
}

TEST(WordsTest, NoTabsAndNoSpacesAtTheEnd) {
  EXPECT_EQ(violations(is_schema_or_code,
                       [](const std::string& line) -> std::string {
                         if (line.contains('\t')) return "a tab";
                         return line.ends_with(' ') ? "spaces at the end" : "";
                       }),
            "");
}

struct Banned {
  std::string pattern;
  std::string instead;
  std::vector<std::string> allowed = {};  // Where it is right, by path.
  bool in_tests = false;                  // Whether tests must keep to it too.
};

const std::vector<Banned>& banned() {
  static const std::vector<Banned> kBanned{
      {"system_clock", "Clock", {"common/base/clock"}, true},
      {"sleep_(for|until)", "a timer, or a wait with a condition", {}, true},
      {R"(\bu?sleep\()", "a timer, or a wait with a condition"},
      {R"(\bs?rand\(|std::rand\b|mt19937)", "Random", {}, true},
      {"random_device", "SystemRandom", {}, true},
      // A connection and whoever answers it, orders and sessions at work on one replica, writers
      // and readers of a base disk, readers of a segment that is closed meanwhile: neither outlives
      // the other by rule.  A peer's budget lives as long as any of its messages.
      {"shared_ptr|shared_from_this",
       "one owner",
       {"services/vault/front_door/", "services/agent/target_work",
        "common/bus/(budget|link|listener|zmq_bus)", "services/agent/data_plane/receiver.cpp",
        "services/agent/replica_store/(item|base_disk).h",
        "services/agent/replica_store/point_reader", "services/agent/platforms/hyperv/vhdx_bases"}},
      {"using namespace std", "the name itself", {}, true},
      {R"(\bassert\()", "FARSIDE_ASSERT", {}, true},
      {"std::(cout|cerr)",
       "log::",
       {"cli/", "services/[a-z]+/main.cpp", "common/shell/", "common/schema/plainc/"}},
      {R"(\b(TODO|FIXME|XXX)\b)", "an issue, or the work itself", {}, true},
      {R"(class \w*(Manager|Helper|Util|Utils)\b)", "what it does", {}, true},
      // libvirt offers no way to stop its event loop.
      {R"(\.detach\(\))",
       "a thread that is joined",
       {"services/agent/platforms/libvirt/connection.cpp"},
       true},
      {R"(NOLINT(?!.*: ))", "NOLINT with its reason after a colon", {}, true},
  };
  return kBanned;
}

bool is_allowed(const Banned& word, const std::string& path) {
  for (const std::string& place : word.allowed) {
    if (std::regex_search(path, std::regex("^" + place))) return true;
  }
  return false;
}

TEST(WordsTest, WordsWithABetterReplacementAreNotUsed) {
  for (const Banned& word : banned()) {
    const std::regex pattern(word.pattern);
    EXPECT_EQ(violations(
                  [&](const SourceFile& file) {
                    return file.is_code() && file.path != "tests/tidy/words_test.cpp" &&
                           (word.in_tests || !file.is_under("tests/")) &&
                           !is_allowed(word, file.path);
                  },
                  [&](const std::string& line) -> std::string {
                    return std::regex_search(line, pattern) ? "use " + word.instead : "";
                  }),
              "")
        << word.pattern;
  }
}

TEST(WordsTest, NothingNamesTheMachineItWasWrittenOn) {
  EXPECT_EQ(violations([](const SourceFile&) { return true; },
                       [](const std::string& line) -> std::string {
                         for (const std::string& place : {"/wo"
                                                          "rk/",
                                                          "/home/",
                                                          "/ro"
                                                          "ot/"}) {
                           const std::size_t at = line.find(place);
                           if (at == std::string::npos) continue;
                           const bool is_own_path =
                               at > 0 &&
                               (std::isalnum(static_cast<unsigned char>(line[at - 1])) != 0 ||
                                line[at - 1] == '}' || line[at - 1] == '.' || line[at - 1] == '"');
                           if (!is_own_path) return "a path of one machine: " + place;
                         }
                         return {};
                       }),
            "");
}

TEST(WordsTest, EveryHeaderTellsWhatItIsAndGuardsItself) {
  std::string wrong;
  for (const SourceFile& file : sources()) {
    if (!file.path.ends_with(".h")) continue;
    if (file.lines.empty() || !file.lines[0].starts_with("//")) {
      wrong += file.path + ": begins without a comment\n";
    }
    bool guarded = false;
    for (const std::string& line : file.lines) guarded |= line == "#pragma once";
    if (!guarded) wrong += file.path + ": no #pragma once\n";
  }
  EXPECT_EQ(wrong, "");
}

}  // namespace
}  // namespace farside::tidy
