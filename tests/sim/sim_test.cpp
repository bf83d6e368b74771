// Whatever network, disks, hosts and operators do, the promises hold on every tick; once they stop,
// the operator gets what was asked for: the VM failed over and committed.
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/base/log.h"
#include "tests/sim/world.h"

namespace farside::sim {
namespace {

int seeds() {
  const char* wanted = std::getenv("FARSIDE_SIM_SEEDS");
  return wanted == nullptr ? 200 : std::atoi(wanted);
}

TEST(Sim, PromisesHoldUnderFaultsAndTheStoryEndsOnceHealed) {
  World::Counts all;
  for (int seed = 1; seed <= seeds(); ++seed) {
    SCOPED_TRACE("replay: farside-sim --seed " + std::to_string(seed));
    World world(static_cast<std::uint64_t>(seed));

    world.run(600);
    world.heal();
    for (int i = 0; i < 40 && !world.is_done(); ++i) world.run(100);

    ASSERT_EQ(world.violated(), "") << world.story();
    ASSERT_TRUE(world.is_done()) << world.story();
    all.crashes += world.counts().crashes;
    all.drills += world.counts().drills;
    all.failovers += world.counts().failovers;
    all.jobs_failed += world.counts().jobs_failed;
  }
  // A simulation in which nothing goes wrong proves nothing.
  EXPECT_GT(all.crashes, static_cast<std::uint64_t>(seeds()));
  EXPECT_GT(all.drills, static_cast<std::uint64_t>(seeds()) / 2);  // Some are cancelled.
  EXPECT_EQ(all.failovers, static_cast<std::uint64_t>(seeds()));
  if (seeds() >= 200) {  // Jobs are patient: it takes many.
    EXPECT_GT(all.jobs_failed, 0U);
  }
}

// P5: with the first site gone, what was protected there is drilled, and its protection ends.
TEST(Sim, NothingIsNeededOfALostSite) {
  int lost = 0;
  for (int seed = 1; seed <= seeds(); ++seed) {
    World world(static_cast<std::uint64_t>(seed));
    for (int i = 0; i < 100 && !world.is_protected(); ++i) world.run(5);
    if (!world.is_protected()) continue;  // Its faults were too many, or it was failed over.
    ++lost;

    world.lose("A");
    world.run(200);
    world.heal();
    for (int i = 0; i < 40 && !world.is_done(); ++i) world.run(100);

    ASSERT_EQ(world.violated(), "") << world.story();
    ASSERT_TRUE(world.is_done()) << world.story();
  }
  EXPECT_GT(lost, seeds() / 4);
}

TEST(Sim, ASeedIsRepeatable) {
  World one(7);
  World two(7);

  one.run(400);
  two.run(400);

  EXPECT_EQ(one.story(), two.story());
}

}  // namespace
}  // namespace farside::sim

int main(int argc, char** argv) {
  farside::log::set_up("sim", "off");
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
