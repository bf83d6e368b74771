#include "common/metrics/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/metrics/liveness.h"

namespace farside::metrics {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(RegistryTest, ShowsEachKindWithItsHelpAndLabels) {
  Registry registry;

  registry.counter("farside_frames_total", "Frames.", {{"way", "in"}}).add(3);
  registry.gauge("farside_depth", "Depth.").set(2.5);
  registry.histogram("farside_step_seconds", "Steps.", {1, 10}).observe(4);

  const std::string text = registry.text();
  EXPECT_THAT(text, HasSubstr("# HELP farside_frames_total Frames."));
  EXPECT_THAT(text, HasSubstr("farside_frames_total{way=\"in\"} 3"));
  EXPECT_THAT(text, HasSubstr("farside_depth 2.5"));
  EXPECT_THAT(text, HasSubstr("farside_step_seconds_bucket{le=\"1\"} 0"));
  EXPECT_THAT(text, HasSubstr("farside_step_seconds_bucket{le=\"10\"} 1"));
}

TEST(RegistryTest, TheSameNameAndLabelsAreTheSameFigure) {
  Registry registry;
  registry.counter("farside_a_total", "A.", {{"k", "v"}}).add();
  registry.counter("farside_a_total", "A.", {{"k", "v"}}).add();
  registry.counter("farside_a_total", "A.", {{"k", "w"}}).add();

  EXPECT_EQ(registry.counter("farside_a_total", "A.", {{"k", "v"}}).value(), 2);
}

TEST(RegistryTest, ACounterNeverFalls) {
  Registry registry;
  Counter counter = registry.counter("farside_a_total", "A.");

  counter.add(2);
  counter.add(-1);

  EXPECT_EQ(counter.value(), 2);
}

TEST(RegistryTest, ForgetsTheFiguresOfWhatIsGone) {
  Registry registry;
  registry.gauge("farside_lag", "Lag.", {{"item", "a"}}).set(1);
  registry.gauge("farside_lag", "Lag.", {{"item", "b"}}).set(2);
  registry.counter("farside_cycles_total", "Cycles.", {{"item", "a"}, {"how", "x"}}).add();

  registry.forget("item", "a");

  EXPECT_THAT(registry.text(), Not(HasSubstr("item=\"a\"")));
  EXPECT_THAT(registry.text(), HasSubstr("farside_lag{item=\"b\"} 2"));
  EXPECT_EQ(registry.gauge("farside_lag", "Lag.", {{"item", "a"}}).value(), 0);
}

TEST(RegistryTest, AHandleWithoutARegistryIsHarmless) {
  Counter().add();
  Gauge().set(1);
  Histogram().observe(1);
  EXPECT_EQ(Counter().value(), 0);
}

TEST(RegistryDeathTest, OneNameWithTwoTypesIsABug) {
  Registry registry;
  registry.counter("farside_a_total", "A.");
  EXPECT_DEATH(registry.gauge("farside_a_total", "A."), "assertion failed");
}

class HandClock final : public Clock {
 public:
  Time now() const override { return Time{0}; }
  Micros monotonic() const override { return at; }
  Micros at{0};
};

TEST(LivenessTest, ALoopThatStopsTurningIsAProblemUntilItTurnsAgain) {
  HandClock clock;
  Liveness liveness(clock, "reactor", std::chrono::seconds(10));
  EXPECT_EQ(liveness.problem(), "");

  clock.at = std::chrono::seconds(11);
  EXPECT_EQ(liveness.problem(), "reactor has not turned for 11 s");

  liveness.turned();
  EXPECT_EQ(liveness.problem(), "");
}

}  // namespace
}  // namespace farside::metrics
