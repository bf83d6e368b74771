// What VMM's scripts say becomes a site, or is refused with every reason.
#include <gtest/gtest.h>

#include <fstream>

#include "services/provider/vmm/vmm_source.h"
#include "tests/support/temp_folder.h"

namespace farside::provider::vmm {
namespace {

Answers good() {
  return {
      {"clouds", R"([{"name":"Gold","hostGroups":["All Hosts\\Prod"],"logicalNetworks":["DC"]}])"},
      {"host_groups",
       R"([{"path":"All Hosts"},{"path":"All Hosts\\Prod"},{"path":"All Hosts\\Production"}])"},
      {"hosts", R"([{"name":"HV1","group":"All Hosts\\Prod"},)"
                R"({"name":"HV2","group":"All Hosts\\Production"}])"},
      {"networks", R"([{"name":"Servers","logicalNetwork":"DC","subnets":)"
                   R"([{"name":"S10","cidr":"10.1.0.0/24","vlan":10}]},)"
                   R"({"name":"Lab","logicalNetwork":"Lab net","subnets":[]}])"},
      {"pools", R"([{"name":"P","network":"Servers","logicalNetwork":"DC","cidr":"10.1.0.0/24",)"
                R"("vlan":10,"from":"10.1.0.5","to":"10.1.0.9"},)"
                R"({"name":"L","network":"","logicalNetwork":"Lab net","cidr":"10.2.0.0/24",)"
                R"("vlan":0,"from":"10.2.0.5","to":"10.2.0.9"}])"},
      {"classifications", R"([{"name":"Fast"},{"name":"Slow"}])"}};
}

std::string refusal(const Answers& answers, const Mapping& mapping = {}) {
  const auto site = site_from_answers(answers, mapping);
  return site ? "" : to_text(site.error());
}

std::string refusal_with(const std::string& name, const std::string& json) {
  Answers answers = good();
  answers[name] = json;
  return refusal(answers);
}

TEST(VmmSite, EveryKindOfObjectIsThere) {
  const auto site = site_from_answers(
      good(), {.host_networks = {{"Servers", "switch"}}, .storage_paths = {{"Fast", "D:\\r"}}});

  ASSERT_TRUE(site) << to_text(site.error());
  ASSERT_EQ(site->clouds.size(), 1u);
  EXPECT_EQ(site->clouds[0].host_groups, std::vector<std::string>{"All Hosts\\Prod"});
  EXPECT_EQ(site->clouds[0].networks, std::vector<std::string>{"Servers"});
  ASSERT_EQ(site->host_groups.size(), 3u);
  EXPECT_EQ(site->host_groups[0].hosts, (std::vector<std::string>{"HV1", "HV2"}));
  EXPECT_EQ(site->host_groups[1].hosts, std::vector<std::string>{"HV1"});  // Not Production's.
  ASSERT_EQ(site->networks.size(), 2u);
  EXPECT_EQ(site->networks[0].host_network, "switch");
  EXPECT_EQ(site->networks[0].subnets.at(0), (msg::Subnet{.name = "S10",
                                                          .cidr = "10.1.0.0/24",
                                                          .vlan = 10,
                                                          .pool_from = "10.1.0.5",
                                                          .pool_to = "10.1.0.9"}));
  EXPECT_EQ(site->networks[1].host_network, "Lab net");  // For want of a mapping.
  EXPECT_EQ(site->networks[1].subnets.at(0).name, "L");  // From the pool alone.
  ASSERT_EQ(site->storage.size(), 1u);                   // Slow has no path.
  EXPECT_EQ(site->storage[0], (msg::StorageClass{.name = "Fast", .path = "D:\\r"}));
}

TEST(VmmSite, AnEmptyServerIsAnEmptySite) {
  Answers answers = good();
  for (auto& [name, json] : answers) json = "[]";

  const auto site = site_from_answers(answers, {});

  ASSERT_TRUE(site) << to_text(site.error());
  EXPECT_EQ(*site, msg::SiteDefinition{});
}

TEST(VmmSite, ASecondPoolOfASubnetIsASubnetOfItsOwn) {
  Answers answers = good();
  answers["pools"] =
      R"([{"name":"A","network":"Servers","logicalNetwork":"DC","cidr":"10.1.0.0/24","vlan":10,)"
      R"("from":"10.1.0.5","to":"10.1.0.9"},{"name":"B","network":"Servers",)"
      R"("logicalNetwork":"DC","cidr":"10.1.0.0/24","vlan":10,"from":"10.1.0.50",)"
      R"("to":"10.1.0.90"}])";

  const auto site = site_from_answers(answers, {});

  ASSERT_TRUE(site) << to_text(site.error());
  ASSERT_EQ(site->networks[0].subnets.size(), 2u);
  EXPECT_EQ(site->networks[0].subnets[1].name, "B");
  EXPECT_EQ(site->networks[0].subnets[1].pool_to, "10.1.0.90");
}

TEST(VmmSite, AMissingAnswerAndOneThatIsNoJsonAreTold) {
  for (const auto& [name, json] : good()) {
    Answers answers = good();
    answers.erase(name);
    EXPECT_NE(refusal(answers).find("no answer about " + name), std::string::npos) << name;
    EXPECT_NE(refusal_with(name, "").find(name + " is not JSON"), std::string::npos) << name;
    EXPECT_NE(refusal_with(name, json.substr(0, json.size() - 1)).find("is not JSON"),
              std::string::npos)
        << name;
    EXPECT_NE(refusal_with(name, "{}").find(name + " is not a list"), std::string::npos) << name;
    EXPECT_NE(refusal_with(name, "[7]").find(name + "[0] is not an object"), std::string::npos)
        << name;
    EXPECT_NE(refusal_with(name, "[{}]").find(name + "[0] has no '"), std::string::npos) << name;
    EXPECT_NE(refusal_with(name, R"([{"odd":1}])").find("has a field 'odd'"), std::string::npos)
        << name;
  }
}

TEST(VmmSite, FieldsOfAnotherTypeAreTold) {
  EXPECT_NE(refusal_with("hosts", R"([{"name":1,"group":"All Hosts"}])")
                .find("hosts[0] has 'name', which is not a text"),
            std::string::npos);
  EXPECT_NE(refusal_with("hosts", R"([{"name":"","group":"All Hosts"}])")
                .find("hosts[0] has an empty 'name'"),
            std::string::npos);
  EXPECT_NE(refusal_with("hosts", R"([{"name":null,"group":"All Hosts"}])").find("not a text"),
            std::string::npos);
  EXPECT_NE(refusal_with("clouds", R"([{"name":"G","hostGroups":"x","logicalNetworks":[]}])")
                .find("'hostGroups', which is not a list"),
            std::string::npos);
  EXPECT_NE(refusal_with("clouds", R"([{"name":"G","hostGroups":[1],"logicalNetworks":[]}])")
                .find("something else than texts"),
            std::string::npos);
  for (const std::string vlan : {"-1", "4095", "\"10\"", "1.5", "99999999999999999999"}) {
    EXPECT_NE(refusal_with("networks", R"([{"name":"N","logicalNetwork":"L","subnets":[{"name":)"
                                       R"("S","cidr":"10.0.0.0/8","vlan":)" +
                                           vlan + "}]}]")
                  .find("networks[0].subnets[0] has 'vlan', which is not a number"),
              std::string::npos)
        << vlan;
  }
}

TEST(VmmSite, WhatDoesNotFitTogetherIsTold) {
  EXPECT_NE(refusal_with("clouds", R"([{"name":"G","hostGroups":["None"],"logicalNetworks":[]}])")
                .find("names 'None', which is not defined"),
            std::string::npos);
  EXPECT_NE(refusal_with("hosts", R"([{"name":"H","group":"Elsewhere"}])")
                .find("'Elsewhere', which VMM does not list"),
            std::string::npos);
  EXPECT_NE(refusal_with("pools", R"([{"name":"P","network":"None","logicalNetwork":"","cidr":)"
                                  R"("10.0.0.0/8","vlan":0,"from":"10.0.0.1","to":"10.0.0.2"}])")
                .find("names network 'None'"),
            std::string::npos);
  EXPECT_NE(refusal_with("pools", R"([{"name":"P","network":"Servers","logicalNetwork":"DC",)"
                                  R"("cidr":"10.1.0.0/24","vlan":0,"from":"10.1.0","to":"x"}])")
                .find("'10.1.0' is not an address"),
            std::string::npos);
  EXPECT_NE(refusal(good(), {.host_networks = {{"Typo", "x"}}, .storage_paths = {}})
                .find("maps network 'Typo'"),
            std::string::npos);
  EXPECT_NE(refusal(good(), {.host_networks = {}, .storage_paths = {{"Typo", "x"}}})
                .find("maps storage class 'Typo'"),
            std::string::npos);
}

TEST(VmmSite, AMappingOnlyMaps) {
  const auto mapping = mapping_from_toml(
      "[[network]]\nname = \"a\"\nhost_network = \"b\"\n"
      "[[storage_class]]\nname = \"c\"\npath = \"d\"\n",
      "m.toml");
  ASSERT_TRUE(mapping) << to_text(mapping.error());
  EXPECT_EQ(mapping->host_networks.at("a"), "b");
  EXPECT_EQ(mapping->storage_paths.at("c"), "d");

  EXPECT_FALSE(mapping_from_toml("[[cloud]]\nname = \"a\"\n", "m.toml"));
  EXPECT_FALSE(mapping_from_toml("[[network]]\nname = \"a\"\n", "m.toml"));
  EXPECT_FALSE(
      mapping_from_toml("[[network]]\nname = \"a\"\nhost_network = \"b\"\n"
                        "[[network]]\nname = \"a\"\nhost_network = \"c\"\n",
                        "m.toml"));
}

TEST(VmmSite, ScriptsFitIntoACommandLine) {
  for (const Script& script : scripts()) {
    EXPECT_TRUE(script.text.starts_with("# farside:" + script.name + "\n"));
    EXPECT_LT(script.text.size(), 2'900u) << script.name;
    for (const char c : script.text) EXPECT_LT(static_cast<unsigned char>(c), 0x80) << script.name;
  }
}

struct StillClock final : Clock {
  Micros at{0};
  Time now() const override { return {}; }
  Micros monotonic() const override { return at; }
};

TEST(VmmSource, AsksAgainWhenItIsTimeAndSoonerAfterAFailure) {
  StillClock clock;
  int asked = 0;
  bool fails = false;
  VmmSource source(
      [&](std::span<const Script> wanted) -> Result<Answers> {
        asked += 1;
        EXPECT_EQ(wanted.size(), 6u);
        if (fails) return fail(ErrorCode::kUnavailable, "away");
        return good();
      },
      "", std::chrono::seconds{300}, clock);

  EXPECT_TRUE(source.read());
  clock.at = std::chrono::seconds{299};
  EXPECT_TRUE(source.read());
  EXPECT_EQ(asked, 1);
  clock.at = std::chrono::seconds{300};
  fails = true;
  EXPECT_FALSE(source.read());
  EXPECT_FALSE(source.read());
  EXPECT_EQ(asked, 2);
  clock.at = std::chrono::seconds{330};
  fails = false;
  EXPECT_TRUE(source.read());
  EXPECT_EQ(asked, 3);
}

TEST(VmmSource, ANewMappingHoldsAtOnce) {
  const test::TempFolder folder;
  const StillClock clock;
  VmmSource source([](std::span<const Script>) -> Result<Answers> { return good(); },
                   folder / "map.toml", std::chrono::seconds{300}, clock);
  EXPECT_FALSE(source.read());  // No such file.
  std::ofstream(folder / "map.toml") << "";
  ASSERT_TRUE(source.read());
  std::ofstream(folder / "map.toml") << "[[storage_class]]\nname = \"Slow\"\npath = \"/s\"\n";

  const auto site = source.read();

  ASSERT_TRUE(site);
  EXPECT_EQ(site->storage.at(0).path, "/s");
}

}  // namespace
}  // namespace farside::provider::vmm
