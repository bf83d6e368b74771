#include "services/provider/placement.h"

#include <gtest/gtest.h>

namespace farside::provider {
namespace {

msg::HostEntry host(const std::string& name, std::uint64_t free_bytes) {
  return {
      .host = {.name = name,
               .memory_mib = 4096,
               .networks = {"br0"},
               .storage = {{.path = "/replicas", .total_bytes = 1000, .free_bytes = free_bytes}}},
      .principal = "agent/B/" + name,
      .connected = true};
}

msg::Inventory site() {
  return {.site = "B",
          .clouds = {{.name = "gold", .host_groups = {"all"}}},
          .host_groups = {{.name = "all", .hosts = {"one", "two"}}},
          .networks = {{.name = "lan", .host_network = "br0"}},
          .storage = {{.name = "fast", .path = "/replicas"}},
          .hosts = {host("one", 500), host("two", 900)}};
}

msg::PlaceReplica wanted() {
  return {.item = "item",
          .vm = {.name = "web", .memory_mib = 1024, .disks = {{.name = "vda", .bytes = 300}}},
          .cloud = "gold",
          .networks = {"lan"},
          .storage_class = "fast"};
}

TEST(Placement, TakesTheHostWithMostFreeSpace) {
  const auto placed = place(wanted(), site(), {});

  ASSERT_TRUE(placed) << placed.error().what;
  EXPECT_EQ(placed->agent, "agent/B/two");
  EXPECT_EQ(placed->storage_path, "/replicas");
}

TEST(Placement, CountsWhatIsPromisedAlready) {
  const auto placed =
      place(wanted(), site(), {{.item = "other", .agent = "agent/B/two", .bytes = 700}});

  ASSERT_TRUE(placed);
  EXPECT_EQ(placed->agent, "agent/B/one");
}

TEST(Placement, SaysOfEachHostWhyItDoesNotFit) {
  auto inventory = site();
  inventory.hosts[0].connected = false;
  inventory.hosts[1].host.networks.clear();

  const auto placed = place(wanted(), inventory, {});

  ASSERT_FALSE(placed);
  EXPECT_EQ(placed.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(placed.error().what.find("one not connected"), std::string::npos);
  EXPECT_NE(placed.error().what.find("two does not have network 'br0'"), std::string::npos);
}

TEST(Placement, SaysWhatKeepsAHostFromBeingKnown) {
  auto inventory = site();
  inventory.hosts = {{.host = {.name = "one", .problem = "its daemon is away"}, .connected = true}};

  const auto placed = place(wanted(), inventory, {});

  ASSERT_FALSE(placed);
  EXPECT_NE(placed.error().what.find("one is not known: its daemon is away"), std::string::npos);
}

TEST(Placement, RefusesWhenMemoryIsShort) {
  auto big = wanted();
  big.vm.memory_mib = 8192;

  EXPECT_FALSE(place(big, site(), {}));
}

TEST(Placement, RefusesUnknownCloudNetworkAndStorageClass) {
  auto cloud = wanted();
  cloud.cloud = "none";
  auto network = wanted();
  network.networks = {"none"};
  auto storage = wanted();
  storage.storage_class = "none";

  for (const auto& bad : {cloud, network, storage}) {
    const auto placed = place(bad, site(), {});
    ASSERT_FALSE(placed);
    EXPECT_EQ(placed.error().code, ErrorCode::kNotFound);
    EXPECT_FALSE(placed.error().advice.empty());
  }
}

}  // namespace
}  // namespace farside::provider
