// The simulated host's queries and orders.
#include "tests/support/hvsim/wql.h"

#include <gtest/gtest.h>

#include "tests/support/hvsim/control.h"
#include "tests/support/hvsim/hyperv_model.h"

namespace farside::hvsim {
namespace {

TEST(WqlTest, SelectsByEqualProperties) {
  const auto query = parse_wql(R"(select * From A where N = 12 AND T="it's \"x\\y\"" and B=TRUE)");

  ASSERT_TRUE(query) << query.error().what;
  EXPECT_EQ(query->class_name, "A");
  EXPECT_EQ(query->equals, (std::vector<std::pair<std::string, std::string>>{
                               {"N", "12"}, {"T", R"(it's "x\y")"}, {"B", "TRUE"}}));
}

TEST(WqlTest, WalksAssociations) {
  const auto query =
      parse_wql(R"(ASSOCIATORS OF {A.K='a\\b',L="2"} WHERE ResultClass = R AssocClass=S)");

  ASSERT_TRUE(query) << query.error().what;
  EXPECT_EQ(query->of.class_name, "A");
  EXPECT_EQ(query->of.keys, (std::map<std::string, std::string>{{"K", R"(a\b)"}, {"L", "2"}}));
  EXPECT_EQ(query->association, "S");
  EXPECT_EQ(query->result, "R");
}

TEST(WqlTest, RefusesEverythingElse) {
  for (const char* text :
       {"", "DELETE FROM A", "SELECT Name FROM A", "SELECT * FROM", "SELECT * FROM A WHERE",
        "SELECT * FROM A WHERE N", "SELECT * FROM A WHERE N = ", "SELECT * FROM A WHERE N = 'x",
        "SELECT * FROM A WHERE N = 1 OR M = 2", "SELECT * FROM A WHERE N LIKE 'x'",
        "SELECT * FROM A more", "ASSOCIATORS OF A", "ASSOCIATORS OF {A.K=}",
        "ASSOCIATORS OF {A.K='1'} WHERE", "ASSOCIATORS OF {A.K='1'} WHERE Role=X"}) {
    EXPECT_FALSE(parse_wql(text)) << text;
  }
}

TEST(WqlTest, FindsDerivedClassesAndPartsOfAVm) {
  Objects objects;
  fill_model(objects, {.vms = 3});

  const auto systems = run_query(objects, parse_wql("SELECT * FROM CIM_ComputerSystem").value());
  ASSERT_TRUE(systems);
  EXPECT_EQ(systems->size(), 5u);  // The host, its VMs and a switch.
  const auto parts = run_query(
      objects, parse_wql("ASSOCIATORS OF {Msvm_VirtualSystemSettingData.InstanceID='Microsoft:" +
                         vm_guid(2) + "'} WHERE ResultClass=CIM_ResourceAllocationSettingData")
                   .value());
  ASSERT_TRUE(parts);
  EXPECT_EQ(parts->size(), 7u);
  EXPECT_FALSE(run_query(objects, parse_wql("SELECT * FROM Nothing").value()));
}

TEST(ControlTest, SaysWhatItDidNotUnderstand) {
  Faults faults;

  EXPECT_EQ(obey(faults, R"({"do":"reset","times":3})"), "ok");
  EXPECT_EQ(faults.resets, 3);
  EXPECT_NE(obey(faults, R"({"do":"dance"})"), "ok");
  EXPECT_NE(obey(faults, "not JSON"), "ok");
  EXPECT_NE(obey(faults, R"({"do":"lose_tracking"})"), "ok");
}

}  // namespace
}  // namespace farside::hvsim
