// Jobs, and the paging of changed ranges.
#include "common/wsman/job.h"

#include <gtest/gtest.h>

#include "common/wsman/disk_changes.h"
#include "common/wsman/xml.h"
#include "tests/unit/wsman/scripted_channel.h"

namespace farside::wsman {
namespace {

using test::fault;
using test::in_envelope;
using test::StillClock;

const std::string kStarted = in_envelope(
    "<p:Do_OUTPUT><p:Job><a:Address/><a:ReferenceParameters><w:ResourceURI>"
    "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_ConcreteJob"
    "</w:ResourceURI><w:SelectorSet><w:Selector Name=\"InstanceID\">J</w:Selector>"
    "</w:SelectorSet></a:ReferenceParameters></p:Job><p:ReturnValue>4096</p:ReturnValue>"
    "</p:Do_OUTPUT>");

std::string job_in(int state, const std::string& more = "") {
  return in_envelope("<p:Msvm_ConcreteJob><p:JobState>" + std::to_string(state) +
                     "</p:JobState><p:PercentComplete>40</p:PercentComplete>" + more +
                     "</p:Msvm_ConcreteJob>");
}

// Each look at the job takes the next of `looks`; the last one stays.
struct JobTest : testing::Test {
  std::vector<std::string> looks;
  std::size_t looked = 0;
  SeededRandom random{1};
  StillClock clock;

  Result<CallOutcome> call_it() {
    Client client = test::client_of(
        [&](const std::string& envelope) -> Result<SoapReply> {
          if (envelope.contains("Do_INPUT")) return SoapReply{200, kStarted};
          const std::string& look = looks[std::min(looked++, looks.size() - 1)];
          return SoapReply{200, look};
        },
        random);
    return call(client, service("Msvm_X"), "Do", {}, test::waiting(clock));
  }
};

TEST_F(JobTest, IsWaitedForUntilItEnds) {
  looks = {job_in(3), job_in(4), job_in(4), job_in(7)};

  const auto outcome = call_it();

  ASSERT_TRUE(outcome) << outcome.error().what;
  EXPECT_TRUE(outcome->had_job);
  EXPECT_FALSE(outcome->has_vanished);
  EXPECT_EQ(looked, 4u);
  EXPECT_GT(clock.at, Micros{0});
}

TEST_F(JobTest, ThatVanishedSaysToLookAtTheEffect) {
  looks = {job_in(4), fault("w:InternalError", "2147749890", "Not found")};

  const auto outcome = call_it();

  ASSERT_TRUE(outcome) << outcome.error().what;
  EXPECT_TRUE(outcome->has_vanished);
}

TEST_F(JobTest, ThatFailsCarriesTheHostsWords) {
  looks = {job_in(10,
                  "<p:ErrorCode>32775</p:ErrorCode>"
                  "<p:ErrorDescription>'web' failed to start.</p:ErrorDescription>")};

  const auto outcome = call_it();

  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kConflict);
  EXPECT_TRUE(outcome.error().what.contains("'web' failed to start. (32775)"));
}

TEST_F(JobTest, ThatNeverEndsTimesOut) {
  looks = {job_in(4)};

  const auto outcome = call_it();

  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kTimeout);
  EXPECT_GE(clock.at, Micros{10'000'000});
  EXPECT_LE(clock.at, Micros{11'000'000});
  EXPECT_LT(looked, 40u);
}

// A disk whose every `step` bytes hold one changed range; no more than `ranges_max` fit.
struct DiskChangesTest : testing::Test {
  std::uint64_t disk_bytes = 1 << 20;
  std::uint64_t step = 64 << 10;
  std::uint64_t ranges_max = 3;
  std::uint64_t processed_max = ~std::uint64_t{0};
  std::string failure;
  int asked = 0;
  SeededRandom random{1};
  StillClock clock;

  Result<std::vector<ChangedRange>> ask() {
    Client client = test::client_of(
        [&](const std::string& envelope) { return SoapReply{200, answer(envelope)}; }, random);
    return changed_ranges(client, {.path = "C:\\a.vhdx", .since = "rct", .disk_bytes = disk_bytes},
                          test::waiting(clock));
  }

  std::string answer(const std::string& envelope) {
    ++asked;
    if (!failure.empty()) return failure;
    pugi::xml_document document;
    EXPECT_TRUE(load_xml(document, envelope));
    const pugi::xml_node input = first_element(child(first_element(document), "Body"));
    const std::uint64_t offset = parse_number(text_of(child(input, "ByteOffset"))).value();
    const std::uint64_t bytes =
        std::min(processed_max, parse_number(text_of(child(input, "ByteLength"))).value());
    std::string offsets;
    std::string lengths;
    std::uint64_t count = 0;
    for (std::uint64_t at = (offset + step - 1) / step * step; at < offset + bytes; at += step) {
      ++count;
      offsets += "<p:ChangedByteOffsets>" + std::to_string(at) + "</p:ChangedByteOffsets>";
      lengths += "<p:ChangedByteLengths>4096</p:ChangedByteLengths>";
    }
    if (count > ranges_max) return fault("w:EncodingLimit", "2150858788", "Too large");
    return in_envelope("<p:GetVirtualDiskChanges_OUTPUT>" + offsets + lengths +
                       "<p:ProcessedByteLength>" + std::to_string(bytes) +
                       "</p:ProcessedByteLength><p:ReturnValue>0</p:ReturnValue>"
                       "</p:GetVirtualDiskChanges_OUTPUT>");
  }
};

TEST_F(DiskChangesTest, AreAskedForInSmallerWindowsUntilTheyFit) {
  const auto ranges = ask();

  ASSERT_TRUE(ranges) << ranges.error().what;
  ASSERT_EQ(ranges->size(), 16u);
  for (std::uint64_t i = 0; i < 16; ++i) {
    EXPECT_EQ(ranges->at(i), (ChangedRange{.offset = i * step, .bytes = 4096}));
  }
}

TEST_F(DiskChangesTest, GoOnAfterWhatTheHostProcessed) {
  processed_max = 100'000;

  const auto ranges = ask();

  ASSERT_TRUE(ranges) << ranges.error().what;
  EXPECT_EQ(ranges->size(), 16u);
  EXPECT_EQ(asked, 11);
}

TEST_F(DiskChangesTest, AdjacentRangesAreOne) {
  step = 4096;
  ranges_max = 1000;

  const auto ranges = ask();

  ASSERT_TRUE(ranges) << ranges.error().what;
  EXPECT_EQ(*ranges, (std::vector<ChangedRange>{{.offset = 0, .bytes = disk_bytes}}));
}

TEST_F(DiskChangesTest, LostTrackingIsToldApart) {
  failure = in_envelope(
      "<p:GetVirtualDiskChanges_OUTPUT><p:ReturnValue>32768</p:ReturnValue>"
      "</p:GetVirtualDiskChanges_OUTPUT>");
  EXPECT_EQ(ask().error().code, ErrorCode::kTrackingLost);

  failure = fault("w:InternalError", "3225026608", "no tracking");
  EXPECT_EQ(ask().error().code, ErrorCode::kTrackingLost);

  failure = in_envelope(
      "<p:GetVirtualDiskChanges_OUTPUT><p:ReturnValue>32769</p:ReturnValue>"
      "</p:GetVirtualDiskChanges_OUTPUT>");
  EXPECT_EQ(ask().error().code, ErrorCode::kForbidden);
}

TEST_F(DiskChangesTest, ThatMakeNoSenseAreRefused) {
  ranges_max = 1000;
  processed_max = 0;
  EXPECT_EQ(ask().error().code, ErrorCode::kCorrupt);

  failure = in_envelope(
      "<p:GetVirtualDiskChanges_OUTPUT><p:ChangedByteOffsets>99999999</p:ChangedByteOffsets>"
      "<p:ChangedByteLengths>1</p:ChangedByteLengths><p:ProcessedByteLength>4096"
      "</p:ProcessedByteLength><p:ReturnValue>0</p:ReturnValue></p:GetVirtualDiskChanges_OUTPUT>");
  EXPECT_EQ(ask().error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace farside::wsman
