// What the libvirt platform remembers of VMs that are off, and what it still has to end.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "services/agent/platforms/leftovers.h"
#include "services/agent/platforms/libvirt/image_file.h"
#include "services/agent/platforms/libvirt/off_tokens.h"
#include "tests/support/temp_folder.h"

namespace farside::agent::libvirt {
namespace {

OffToken token(const std::string& name) {
  return {.token = name,
          .base = "base",
          .disks = {{.name = "vda",
                     .bytes = 1U << 20U,
                     .chain = {{.path = "/images/a \"b\".qcow2",
                                .device = 1,
                                .inode = ~std::uint64_t{0},
                                .bytes = 3,
                                .modified_ns = -4,
                                .changed_ns = 5}}}}};
}

TEST(OffTokensTest, AreReadAsTheyWereWritten) {
  const test::TempFolder folder;
  {
    const auto tokens = OffTokens::open(folder / "off");
    ASSERT_TRUE(tokens);
    ASSERT_TRUE(tokens->add("vm", token("a")));
    ASSERT_TRUE(tokens->add("vm", token("b")));
  }
  const auto tokens = OffTokens::open(folder / "off");
  ASSERT_TRUE(tokens);

  EXPECT_EQ(tokens->find("vm", "a")->value(), token("a"));
  EXPECT_EQ(tokens->find("vm", "b")->value(), token("b"));
  EXPECT_FALSE(tokens->find("vm", "c")->has_value());
  EXPECT_FALSE(tokens->find("other", "a")->has_value());
  ASSERT_TRUE(tokens->replace_all("vm", token("c")));
  EXPECT_FALSE(tokens->find("vm", "a")->has_value());
  ASSERT_TRUE(tokens->remove("vm"));
  ASSERT_TRUE(tokens->remove("vm"));
  EXPECT_FALSE(tokens->find("vm", "c")->has_value());
}

// As it lies in state folders.
TEST(OffTokensTest, AFileOfThisReleaseIsUnderstood) {
  const test::TempFolder folder;
  const auto tokens = OffTokens::open(folder / "off");
  ASSERT_TRUE(tokens);
  std::ofstream(folder / "off/vm.json")
      << R"({"tokens": [{"token": "a", "base": "base", "disks": [{"name": "vda", "bytes": 1048576,
            "chain": [{"path": "/images/a \"b\".qcow2", "device": 1,
            "inode": 18446744073709551615, "bytes": 3, "modified_ns": -4, "changed_ns": 5}]}]}]})";

  EXPECT_EQ(tokens->find("vm", "a")->value(), token("a"));
}

TEST(OffTokensTest, AnIdThatIsNoNameOfAFileTouchesNone) {
  const test::TempFolder folder;
  const auto tokens = OffTokens::open(folder / "off");
  ASSERT_TRUE(tokens);
  std::ofstream(folder / "precious.json") << "x";

  EXPECT_FALSE(tokens->remove("../precious"));
  EXPECT_FALSE(tokens->replace_all("../new", token("a")));
  EXPECT_FALSE(tokens->find("../precious", "a"));

  EXPECT_TRUE(std::filesystem::exists(folder / "precious.json"));
  EXPECT_FALSE(std::filesystem::exists(folder / "new.json"));
}

TEST(OffTokensTest, AttemptsDoNotDriveOutTheDurablePoint) {
  const test::TempFolder folder;
  const auto tokens = OffTokens::open(folder / "off");
  ASSERT_TRUE(tokens);
  ASSERT_TRUE(tokens->replace_all("vm", token("durable")));
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(tokens->add("vm", token(std::to_string(i))));

  EXPECT_TRUE(tokens->find("vm", "durable")->has_value());
  EXPECT_TRUE(tokens->find("vm", "49")->has_value());
  EXPECT_FALSE(tokens->find("vm", "0")->has_value());
}

TEST(OffTokensTest, WhatCannotBeUnderstoodIsNoToken) {
  const test::TempFolder folder;
  const auto tokens = OffTokens::open(folder / "off");
  ASSERT_TRUE(tokens);
  for (const char* text : {"", "{", "[]", R"({"tokens": [{"token": 7}]})"}) {
    std::ofstream(folder / "off/vm.json") << text;
    const auto found = tokens->find("vm", "a");
    ASSERT_TRUE(found) << text;
    EXPECT_FALSE(found->has_value()) << text;
  }
}

TEST(ImageFileTest, OnlyTheTopmostFileMayChange) {
  const std::vector<FileState> chain = {
      {.path = "top", .device = 1, .inode = 2, .bytes = 3, .modified_ns = 4, .changed_ns = 5},
      {.path = "base", .device = 1, .inode = 3, .bytes = 3, .modified_ns = 4, .changed_ns = 5}};
  const auto with = [&](const auto& change) {
    auto other = chain;
    change(other);
    return is_same_disk(chain, other);
  };

  EXPECT_TRUE(with([](auto& now) { now[0].modified_ns = now[0].changed_ns = 9; }));
  EXPECT_TRUE(with([](auto& now) { now[0].bytes = 9; }));
  EXPECT_TRUE(with([](auto& now) { now[1].changed_ns = 9; })) << "its owner";
  EXPECT_FALSE(with([](auto& now) { now[1].modified_ns = 9; }));
  EXPECT_FALSE(with([](auto& now) { now[1].inode = 9; }));
  EXPECT_FALSE(with([](auto& now) { now[0].inode = 9; }));
  EXPECT_FALSE(with([](auto& now) { now.pop_back(); }));
}

TEST(LeftoversTest, AreKeptUntilTheyAreEnded) {
  Leftovers leftovers;
  const Error why{.code = ErrorCode::kUnavailable, .what = "away", .advice = ""};
  int calls = 0;
  Status answer = fail(why);
  const auto clean_up = [&](const std::string&) {
    ++calls;
    return answer;
  };
  EXPECT_TRUE(leftovers.settle("vm", clean_up));
  EXPECT_EQ(calls, 0);

  leftovers.add("vm", why);
  leftovers.sweep(clean_up);
  EXPECT_EQ(calls, 1);
  leftovers.sweep(clean_up);
  EXPECT_EQ(calls, 1) << "it waits a while";
  EXPECT_FALSE(leftovers.settle("vm", clean_up)) << "who needs it does not wait";
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(leftovers.of("vm")->what, "away");
  answer = {};
  EXPECT_TRUE(leftovers.settle("vm", clean_up));
  EXPECT_FALSE(leftovers.of("vm"));
  leftovers.add_if("vm", why, [] { return false; });
  EXPECT_FALSE(leftovers.of("vm"));
}

TEST(LeftoversTest, AreAnOperatorsMatterOnceTheyStayAndNobodyElseIsAtWork) {
  Leftovers leftovers;
  leftovers.add("a", {.code = ErrorCode::kUnavailable, .what = "away", .advice = ""});
  leftovers.add("b", {.code = ErrorCode::kBusy, .what = "another tool's backup", .advice = ""});

  EXPECT_TRUE(leftovers.stuck(std::chrono::seconds{3'600}).empty()) << "not for long yet";
  const auto stuck = leftovers.stuck(std::chrono::seconds{0});

  ASSERT_EQ(stuck.size(), 1U);
  EXPECT_EQ(stuck.at("a").what, "away");
}

}  // namespace
}  // namespace farside::agent::libvirt
