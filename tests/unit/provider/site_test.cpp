#include "services/provider/site.h"

#include <gtest/gtest.h>

namespace farside::provider {
namespace {

constexpr std::string_view kGood = R"(
[[cloud]]
name = "gold"
host_groups = ["all"]
networks = ["lan"]
[[host_group]]
name = "all"
hosts = ["one"]
[[network]]
name = "lan"
host_network = "br0"
  [[network.subnet]]
  name = "servers"
  cidr = "10.1.0.0/24"
  vlan = 7
[[storage_class]]
name = "fast"
path = "/replicas"
)";

TEST(SiteFile, ReadsEverything) {
  const auto site = site_from_toml(kGood, "site.toml");

  ASSERT_TRUE(site) << site.error().what;
  EXPECT_EQ(site->clouds.at(0).host_groups, std::vector<std::string>{"all"});
  EXPECT_EQ(site->networks.at(0).subnets.at(0).vlan, 7U);
  EXPECT_EQ(site->storage.at(0).path, "/replicas");
}

TEST(SiteFile, RefusesATypoWithASuggestion) {
  const auto site =
      site_from_toml("[[cloud]]\nname = \"gold\"\nhost_group = [\"all\"]\n", "s.toml");

  ASSERT_FALSE(site);
  EXPECT_NE(site.error().what.find("did you mean 'host_groups'"), std::string::npos);
  EXPECT_NE(site.error().what.find("s.toml:3"), std::string::npos) << site.error().what;
}

TEST(SiteFile, RefusesNamesThatAreNotDefinedAndTwins) {
  const auto site = site_from_toml(
      "[[cloud]]\nname = \"a\"\nhost_groups = [\"none\"]\n[[cloud]]\nname = \"a\"\n", "s.toml");

  ASSERT_FALSE(site);
  EXPECT_NE(site.error().what.find("names 'none', which is not defined"), std::string::npos);
  EXPECT_NE(site.error().what.find("two clouds are named 'a'"), std::string::npos);
}

TEST(SiteFile, RefusesAnAddressRangeThatIsNone) {
  for (const auto* cidr : {"10.0.0.0", "10.0.0.0/33", "lan/24", "10.0.0.0/x"}) {
    const auto site = site_from_toml(
        std::string("[[network]]\nname = \"l\"\nhost_network = \"b\"\n[[network.subnet]]\n"
                    "name = \"s\"\ncidr = \"") +
            cidr + "\"\n",
        "s.toml");
    EXPECT_FALSE(site) << cidr;
  }
}

}  // namespace
}  // namespace farside::provider
