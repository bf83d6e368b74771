// Power of machines that run, and that they all end with their host.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/integration/hvsim/real_host_world.h"

namespace farside::hvsim {
namespace {

using wsman::Reference;
using wsman::Value;

Result<wsman::CallOutcome> shut_down(RealHostWorld& world, const std::string& guid) {
  FARSIDE_ASSIGN(
      const auto found,
      world.client().query("SELECT * FROM Msvm_ShutdownComponent WHERE SystemName='" + guid + "'"));
  if (found.empty()) return fail(ErrorCode::kNotFound, "no such service");
  Reference service{.class_name = "Msvm_ShutdownComponent", .keys = {}};
  for (const char* key :
       {"SystemCreationClassName", "SystemName", "CreationClassName", "DeviceID"}) {
    service.keys[key] = found[0].text(key);
  }
  return world.call(service, "InitiateShutdown",
                    {{"Force", Value::flag(false)}, {"Reason", Value::text("test")}});
}

TEST(HvsimPowerTest, AGuestShutsItselfDownWhenItIsAsked) {
  RealHostWorld world;
  ASSERT_GT(world.write_more(5), 0u);
  EXPECT_TRUE(world.wait_until([&] { return shut_down(world, kWitness).has_value(); }));

  EXPECT_TRUE(world.wait_until([&] { return world.state(kWitness) == 3; }));

  EXPECT_TRUE(world.serial(kWitness).contains("witness: final seq="));
  EXPECT_EQ(shut_down(world, kWitness).error().code, ErrorCode::kNotFound) << "off: no service";
  const auto again = world.request_state(kWitness, 3);
  ASSERT_FALSE(again);
  EXPECT_TRUE(again.error().what.contains("32775")) << again.error().what;
}

// Processes that have a path below this folder in their command line.
int programs_below(const std::string& folder) {
  int count = 0;
  for (const auto& one : std::filesystem::directory_iterator("/proc")) {
    std::ifstream in(one.path() / "cmdline");
    const std::string words{std::istreambuf_iterator<char>(in), {}};
    if (words.find(folder) != std::string::npos) ++count;
  }
  return count;
}

TEST(HvsimPowerTest, NothingOutlivesItsHost) {
  RealHostWorld world;
  ASSERT_GT(world.write_more(5), 0u);
  ASSERT_TRUE(world.request_state(kDeaf, 2));
  const std::string root = world.folder() / "host";
  EXPECT_EQ(programs_below(root), 3) << "the host and two machines";

  world.process().kill();

  EXPECT_TRUE(world.wait_until([&] { return programs_below(root) == 0; }));
  world.kill_and_start_again();
  ASSERT_GT(world.write_more(5), 0u);
  world.stop();
  EXPECT_EQ(programs_below(root), 0);
  EXPECT_EQ(std::filesystem::exists(root + "/run"), false);
}

TEST(HvsimPowerTest, StatesFollowRequests) {
  RealHostWorld world;
  ASSERT_EQ(world.state(kDeaf), 3u);
  for (const std::uint16_t wanted : std::vector<std::uint16_t>{2, 32768, 2, 32769, 2, 3}) {
    const auto done = world.request_state(kDeaf, wanted);
    ASSERT_TRUE(done) << wanted << ": " << to_text(done.error());
    EXPECT_EQ(world.state(kDeaf), wanted);
  }
  ASSERT_TRUE(world.request_state(kDeaf, 2));
  EXPECT_EQ(shut_down(world, kDeaf).error().code, ErrorCode::kNotFound) << "a deaf guest has none";

  ASSERT_TRUE(world.request_state(kWitness, 32768));
  const std::uint64_t stopped_at = world.acknowledged();
  ASSERT_TRUE(world.request_state(kWitness, 2));
  EXPECT_GT(world.write_more(5), stopped_at);
  ASSERT_TRUE(world.request_state(kWitness, 11)) << "reset";
  EXPECT_GT(world.write_more(5), stopped_at);
}

}  // namespace
}  // namespace farside::hvsim
