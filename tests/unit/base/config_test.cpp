#include "common/base/config.h"

#include <gtest/gtest.h>

#include "common/base/clock.h"

namespace farside {
namespace {

TEST(Config, DefaultsApplyAndValuesAreRead) {
  auto config = Config::from_text("a = 5\n[b]\nc = \"text\"\n", "f.toml");
  ASSERT_TRUE(config);

  EXPECT_EQ(config->integer("a", 1, 0, 10), 5);
  EXPECT_EQ(config->text("b.c", ""), "text");
  EXPECT_TRUE(config->boolean("missing", true));
  EXPECT_TRUE(config->finish());
}

TEST(Config, EveryMistakeIsReportedAtOnceWithItsLine) {
  auto config = Config::from_text("listen_prot = 1\nworkers = \"many\"\nports = 99999\n", "f.toml");
  ASSERT_TRUE(config);
  config->integer("listen_port", 1, 0, 10);
  config->integer("workers", 1, 0, 10);
  config->integer("ports", 1, 0, 65535);
  config->required_text("data_dir");

  const auto finished = config->finish();

  ASSERT_FALSE(finished);
  EXPECT_NE(finished.error().what.find("f.toml:1: unknown key 'listen_prot', did you mean "
                                       "'listen_port'?"),
            std::string::npos);
  EXPECT_NE(finished.error().what.find("f.toml:2: 'workers' must be a whole number"),
            std::string::npos);
  EXPECT_NE(finished.error().what.find("f.toml:3: 'ports'"), std::string::npos);
  EXPECT_NE(finished.error().what.find("'data_dir' is missing"), std::string::npos);
}

TEST(Config, WhatIsAcceptedIsNamed) {
  auto config = Config::from_text("log_level = \"loud\"\nzzzzzzzz = 1\n", "f.toml");
  ASSERT_TRUE(config);
  config->choice("log_level", "info", {"debug", "info"});

  const auto finished = config->finish();

  ASSERT_FALSE(finished);
  EXPECT_EQ(finished.error().what,
            "f.toml:1: 'log_level' is 'loud', must be one of: debug, info\n"
            "f.toml:2: unknown key 'zzzzzzzz'; known here: log_level");
}

TEST(Config, SyntaxErrorsNameLineAndColumn) {
  const auto config = Config::from_text("a = \n", "f.toml");

  ASSERT_FALSE(config);
  EXPECT_NE(config.error().what.find("f.toml:1:"), std::string::npos);
}

TEST(Time, IsWrittenAndReadBack) {
  const Time time{1'800'000'000'123'456};

  const auto back = time_from_iso(to_iso(time));

  ASSERT_TRUE(back);
  EXPECT_EQ(*back, time);
  EXPECT_FALSE(time_from_iso("yesterday"));
}

}  // namespace
}  // namespace farside
