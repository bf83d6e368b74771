#include "tests/support/hvsim/host_files.h"

#include <gtest/gtest.h>

#include "tests/support/hvsim/known_properties.h"
#include "tests/support/hvsim/machines.h"
#include "tests/support/hvsim/object_json.h"

namespace farside::hvsim {
namespace {

TEST(HostFilesTest, PathsOfWindowsStayBelowTheirDrive) {
  const HostFiles files("/root");
  EXPECT_EQ(files.file_of(R"(C:\VMs\a b.vhdx)"), "/root/files/C/VMs/a b.vhdx");
  EXPECT_EQ(files.file_of(R"(d:\x)"), "/root/files/D/x");
  for (const char* wrong : {"", "C:", R"(C:\)", "/etc/passwd", R"(C:\a\..\..\b)", R"(\\host\c$\a)",
                            "relative", "1:\\a"}) {
    EXPECT_EQ(files.file_of(wrong).error().code, ErrorCode::kInvalidArgument) << wrong;
  }
}

TEST(HostFilesTest, SubnetsAreMasksOrLengths) {
  EXPECT_EQ(prefix_length("255.255.255.0"), 24);
  EXPECT_EQ(prefix_length("255.255.240.0"), 20);
  EXPECT_EQ(prefix_length("64"), 64);
}

TEST(KnownPropertiesTest, AMisspelledPropertyIsFound) {
  Instance device{"Msvm_StorageAllocationSettingData",
                  {{"HostResource", Value::texts({"x"})}, {"CachingMode", Value::u16(0)}}};
  EXPECT_EQ(unknown_property(device), "");
  device.properties["Hostresource"] = Value::null();
  EXPECT_EQ(unknown_property(device), "Hostresource");
}

TEST(ObjectJsonTest, ObjectsComeBackAsTheyWere) {
  const Instance object{
      "Msvm_X",
      {{"Text", Value::text("<ä> \"quoted\"")},
       {"Number", Value::u64(std::uint64_t{1} << 63U)},
       {"Null", Value::null()},
       {"Path", Value::reference({.class_name = "Y", .keys = {{"K", "1"}}})},
       {"List", Value::list({Value::u16(1), Value::null()}, wsman::CimType::kUint16)},
       {"Inner", Value::embedded({"Z", {{"Flag", Value::flag(true)}}})}}};
  EXPECT_EQ(instance_from(nlohmann::json::parse(to_json(object).dump())), object);
}

}  // namespace
}  // namespace farside::hvsim
