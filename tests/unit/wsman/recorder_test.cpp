#include "common/wsman/recorder.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/support/temp_folder.h"
#include "tests/unit/wsman/scripted_channel.h"

namespace farside::wsman {
namespace {

TEST(RecorderTest, ARecordedHostAnswersAgain) {
  const farside::test::TempFolder folder;
  const ClientOptions options{.url = "https://host:5986/wsman"};
  SeededRandom random(1);
  const auto answer = [](const std::string&) -> Result<SoapReply> {
    return SoapReply{500, test::fault("w:InternalError", "2147749890", "gone")};
  };
  Client live(options,
              std::make_unique<RecordingChannel>(std::make_unique<test::ScriptedChannel>(answer),
                                                 folder.path()),
              random);
  const auto first = live.get(service("A"));

  Client replayed(options, std::make_unique<ReplayingChannel>(folder.path()), random);
  const auto again = replayed.get(service("A"));
  const auto beyond = replayed.get(service("A"));

  ASSERT_FALSE(first);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error(), first.error());
  EXPECT_TRUE(beyond.error().what.contains("has no exchange 2"));
  Client other(options, std::make_unique<ReplayingChannel>(folder.path()), random);
  EXPECT_EQ(other.get(service("B")).error().code, ErrorCode::kConflict);
}

TEST(RecorderTest, PasswordsAreLeftOut) {
  const std::string kept = for_recording(
      "<a><p:Password>secret</p:Password><p:S>&lt;INSTANCE CLASSNAME=\"A\"&gt;&lt;PROPERTY "
      "NAME=\"AdminPassword\" TYPE=\"string\"&gt;&lt;VALUE&gt;secret&lt;/VALUE&gt;"
      "&lt;/PROPERTY&gt;&lt;PROPERTY NAME=\"P\" TYPE=\"string\"&gt;&lt;VALUE&gt;kept&lt;/VALUE&gt;"
      "&lt;/PROPERTY&gt;&lt;/INSTANCE&gt;</p:S></a>");

  EXPECT_FALSE(kept.contains("secret")) << kept;
  EXPECT_TRUE(kept.contains("kept")) << kept;
}

}  // namespace
}  // namespace farside::wsman
