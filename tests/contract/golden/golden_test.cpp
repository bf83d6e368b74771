// The bytes of every message and record, as they were when they came to be.
//
// tests/contract/golden/<struct>.hex has one section per version of a struct; the last must be what
// is written today, and all of them must be understood today.  `golden_test --rewrite` adds a
// section for a struct that has grown.  It never takes one away: bytes of that version may lie in
// somebody's store or come from a peer that was not upgraded yet.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "tests/contract/golden/sample.h"

namespace farside::golden {
namespace {

bool rewrite = false;

using Samples = std::vector<std::pair<std::string, std::string>>;  // Name, bytes.

struct Version {
  std::string names;  // Of its fields or arms.
  Samples samples;
};

std::filesystem::path file_of(const std::string& name) {
  return std::filesystem::path(FARSIDE_GOLDEN) / (name + ".hex");
}

std::string to_hex(std::string_view bytes) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0 && i % 48 == 0) out += '\n';
    const auto byte = static_cast<unsigned char>(bytes[i]);
    out += kDigits[byte >> 4U];
    out += kDigits[byte & 15U];
  }
  return out;
}

std::string from_hex(std::string_view hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return out;
}

std::vector<Version> read(const std::string& name) {
  std::vector<Version> out;
  std::ifstream in(file_of(name));
  std::string hex;
  const auto flush = [&] {
    if (!out.empty() && !out.back().samples.empty()) {
      out.back().samples.back().second = from_hex(hex);
    }
    hex.clear();
  };
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("version ")) {
      flush();
      out.emplace_back();
    } else if (line.starts_with("names ") && !out.empty()) {
      out.back().names = line.substr(6);
    } else if (line.starts_with("sample ") && !out.empty()) {
      flush();
      out.back().samples.emplace_back(line.substr(7), "");
    } else {
      hex += line;
    }
  }
  flush();
  return out;
}

void write(const std::string& name, const std::vector<Version>& versions) {
  std::ofstream out(file_of(name));
  int number = 0;
  for (const auto& version : versions) {
    out << "version " << ++number << "\nnames " << version.names << "\n";
    for (const auto& [sample, bytes] : version.samples) {
      out << "sample " << sample << "\n" << to_hex(bytes) << "\n";
    }
  }
}

// All samples of a struct as values; names of samples say which is which in every version.
template <class T>
std::map<std::string, T> samples_of(const std::string& name, Version& version) {
  std::map<std::string, T> out;
  const auto add = [&](const std::string& sample, T value) {
    version.samples.emplace_back(sample, encode(value));
    out.emplace(sample, std::move(value));
  };
  if constexpr (Union<T>) {
    msg::for_each_arm(std::type_identity<T>(), [&](const char* arm, T value) {
      version.names += (version.names.empty() ? "" : " ") + std::string(arm);
      add(arm, std::move(value));
    });
  } else {
    version.names = names_of_fields<T>();
    T full{};
    fill(full, name);
    add("full", std::move(full));
    for (int n = 0; n < kBitSamples && small_fields<T>() > 1; ++n) {
      add("bits" + std::to_string(n), bit_sample<T>(name, n));
    }
  }
  return out;
}

std::set<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::set<std::string> out;
  for (std::string word; in >> word;) out.insert(word);
  return out;
}

// What is wrong with `versions` in the eyes of today's code; empty: nothing.
template <class T>
std::string judge(const std::string& name, const std::vector<Version>& versions) {
  Version today;
  const auto samples = samples_of<T>(name, today);
  if (versions.empty()) return name + ": no golden bytes; run golden_test --rewrite\n";
  std::string wrong;
  for (const auto& version : versions) {
    const auto now = words(today.names);
    for (const auto& was : words(version.names)) {
      if (!now.contains(was)) wrong += name + ": '" + was + "' is gone\n";
    }
    for (const auto& [sample, bytes] : version.samples) {
      const auto decoded = msg::decode<T>(bytes);
      const auto wanted = samples.find(sample);
      if (!decoded) {
        wrong += name + " " + sample + ": " + decoded.error().what + "\n";
      } else if (wanted == samples.end() || !agrees(*decoded, wanted->second, T{})) {
        wrong += name + " " + sample + ": reads as " + to_text(*decoded) + "\n";
      }
    }
  }
  const auto& last = versions.back();
  if (last.samples != today.samples || last.names != today.names) {
    wrong += name + ": written differently today; if it has grown, run golden_test --rewrite\n";
  } else {
    for (const auto& [sample, bytes] : last.samples) {
      const auto decoded = msg::decode<T>(bytes);
      if (!decoded || *decoded != samples.at(sample)) {
        wrong += name + " " + sample + ": does not read as it was written\n";
      }
    }
  }
  return wrong;
}

TEST(Golden, EveryStructIsWrittenAndReadAsItWas) {
  std::string wrong;
  for_each_struct([&]<class T>(const char* name) {
    auto versions = read(name);
    if (rewrite && !judge<T>(name, versions).empty()) {
      Version today;
      samples_of<T>(name, today);
      versions.push_back(std::move(today));
      write(name, versions);
    }
    wrong += judge<T>(name, versions);
  });
  EXPECT_EQ(wrong, "");
}

TEST(Golden, NoStructIsGone) {
  std::set<std::string> present;
  for_each_struct([&]<class T>(const char* name) { present.insert(name); });
  for (const auto& entry : std::filesystem::directory_iterator(FARSIDE_GOLDEN)) {
    if (entry.path().extension() != ".hex") continue;
    EXPECT_TRUE(present.contains(entry.path().stem().string())) << entry.path().filename();
  }
}

TEST(Golden, EverySchemaIsHere) {
  std::set<std::string> here(schemas().begin(), schemas().end());
  for (const auto& entry : std::filesystem::directory_iterator(FARSIDE_SCHEMAS)) {
    const auto stem = entry.path().stem().string();
    if (entry.path().extension() != ".capnp" || stem == "annotations") continue;
    EXPECT_TRUE(here.contains(stem)) << "add " << stem << " to sample.h";
  }
}

// ---- Does the judge judge?  Bytes as another numbering of the fields would have written them.

TEST(Golden, FieldsThatChangedPlacesAreFound) {
  msg::SourceItem swapped;
  fill(swapped, "SourceItem");
  std::swap(swapped.endpoint, swapped.target_key);
  Version version;
  samples_of<msg::SourceItem>("SourceItem", version);
  version.samples[0].second = encode(swapped);

  EXPECT_NE(judge<msg::SourceItem>("SourceItem", {version}), "");
}

TEST(Golden, TruthValuesThatChangedPlacesAreFound) {
  Version version;
  samples_of<msg::SourceItem>("SourceItem", version);
  for (int n = 0; n < kBitSamples; ++n) {
    auto sample = bit_sample<msg::SourceItem>("SourceItem", n);
    std::swap(sample.stopped, sample.resync);
    version.samples[1 + static_cast<std::size_t>(n)].second = encode(sample);
  }

  EXPECT_NE(judge<msg::SourceItem>("SourceItem", {version}), "");
}

TEST(Golden, AFieldThatIsGoneIsFoundAlsoAfterTheBytesWereRewritten) {
  Version before;
  samples_of<msg::Disk>("Disk", before);
  Version today = before;
  before.names += " cluster_bytes";

  EXPECT_NE(judge<msg::Disk>("Disk", {before, today}).find("'cluster_bytes' is gone"),
            std::string::npos);
}

TEST(Golden, AFieldThatWasAddedIsNoFault) {
  msg::SourceItem before;
  fill(before, "SourceItem");
  before.paused = false;  // As a release without it wrote.
  before.status.paused = false;
  Version old{.names = "item vm epoch", .samples = {{"full", encode(before)}}};
  Version today;
  samples_of<msg::SourceItem>("SourceItem", today);

  EXPECT_EQ(judge<msg::SourceItem>("SourceItem", {old, today}), "");
}

TEST(Golden, ArmsThatChangedPlacesAreFound) {
  Version version;
  samples_of<msg::DataFrame>("DataFrame", version);
  std::swap(version.samples[13].second, version.samples[14].second);  // Ping and pong.

  EXPECT_NE(judge<msg::DataFrame>("DataFrame", {version}), "");
}

}  // namespace
}  // namespace farside::golden

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  farside::golden::rewrite = argc > 1 && std::string(argv[1]) == "--rewrite";
  return RUN_ALL_TESTS();
}
