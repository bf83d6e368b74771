// What we write: WMI paths, queries, embedded objects, envelopes.
#include <gtest/gtest.h>

#include "common/wsman/cim_xml.h"
#include "common/wsman/envelope.h"
#include "common/wsman/wmi_path.h"
#include "common/wsman/xml.h"

namespace farside::wsman {
namespace {

constexpr const char* kPath = R"(\\HOST\Root\Virtualization\V2:Msvm_ResourceAllocationSettingData.)"
                              R"(InstanceID="Microsoft:GUID\\83F8638B\\0")";

TEST(WmiPathTest, IsReadWithItsDoubledBackslashes) {
  const auto reference = parse_wmi_path(kPath);

  ASSERT_TRUE(reference) << reference.error().what;
  EXPECT_EQ(reference->host, "HOST");
  EXPECT_EQ(reference->name_space, "root/virtualization/v2");
  EXPECT_EQ(reference->class_name, "Msvm_ResourceAllocationSettingData");
  EXPECT_EQ(reference->key("InstanceID"), R"(Microsoft:GUID\83F8638B\0)");
}

TEST(WmiPathTest, ComesBackAsItWasWritten) {
  for (const Reference& reference :
       {Reference{.class_name = "A", .keys = {{"K", R"(a\b"c',d=e.f)"}, {"L", ""}}},
        Reference{.class_name = "Msvm_X", .keys = {}, .name_space = "root/cimv2", .host = "H"}}) {
    const auto again = parse_wmi_path(to_wmi_path(reference));

    ASSERT_TRUE(again) << again.error().what;
    EXPECT_EQ(*again, reference) << to_wmi_path(reference);
  }
}

TEST(WmiPathTest, RefusesWhatIsNone) {
  for (const char* text : {"", "\\\\", "\\\\H", "\\\\H\\ns", "A.", "A.K", "A.K=", R"(A.K="x)",
                           R"(A.K="x"y)", R"(A.K="1",K="2")", R"(A.K="x\)", "a b.K=1"}) {
    EXPECT_FALSE(parse_wmi_path(text)) << text;
  }
}

TEST(WmiPathTest, AssociatorsAreAskedForWithEscapedKeys) {
  const Reference settings{.class_name = "Msvm_VirtualSystemSettingData",
                           .keys = {{"InstanceID", R"(Microsoft:A\B)"}}};

  EXPECT_EQ(associators_query(settings, "Msvm_VirtualSystemSettingDataComponent", "Msvm_X"),
            R"(ASSOCIATORS OF {Msvm_VirtualSystemSettingData.InstanceID='Microsoft:A\\B'} )"
            "WHERE AssocClass=Msvm_VirtualSystemSettingDataComponent ResultClass=Msvm_X");
}

TEST(CimXmlTest, HoldsOnlyWhatIsSetWithItsTypes) {
  Instance disk{.class_name = "Msvm_StorageAllocationSettingData", .properties = {}};
  disk.properties["ResourceType"] = Value::u16(31);
  disk.properties["HostResource"] = Value::texts({R"(C:\a&b.vhdx)"});
  disk.properties["Caption"] = Value::null();
  disk.properties["Enabled"] = Value::flag(true);

  EXPECT_EQ(to_cim_xml(disk),
            R"(<INSTANCE CLASSNAME="Msvm_StorageAllocationSettingData">)"
            R"(<PROPERTY NAME="Enabled" TYPE="boolean"><VALUE>true</VALUE></PROPERTY>)"
            R"(<PROPERTY.ARRAY NAME="HostResource" TYPE="string"><VALUE.ARRAY>)"
            R"(<VALUE>C:\a&amp;b.vhdx</VALUE></VALUE.ARRAY></PROPERTY.ARRAY>)"
            R"(<PROPERTY NAME="ResourceType" TYPE="uint16"><VALUE>31</VALUE></PROPERTY>)"
            "</INSTANCE>");
}

TEST(CimXmlTest, ComesBackAsItWasWritten) {
  Instance instance{.class_name = "A", .properties = {}};
  instance.properties["T"] = Value::text("line\r\n<&>\"' \t end ");
  instance.properties["N"] = Value::u64(18'446'744'073'709'551'615U);
  instance.properties["L"] =
      Value::list({Value::text("a"), Value::null(), Value::text("")}, CimType::kString);
  instance.properties["E"] = Value::list({}, CimType::kUint16);

  const auto again = parse_cim_xml(to_cim_xml(instance));

  ASSERT_TRUE(again) << again.error().what;
  EXPECT_EQ(*again, instance);
}

TEST(CimXmlTest, IsFoundInsideOfItsWrapping) {
  const auto instance = parse_cim_xml(
      R"(<?xml version="1.0"?><DECLGROUP><VALUE.OBJECT><INSTANCE CLASSNAME="A">)"
      R"(<QUALIFIER NAME="q" TYPE="string"><VALUE>x</VALUE></QUALIFIER>)"
      R"(<PROPERTY NAME="P" TYPE="uint32"><VALUE>7</VALUE></PROPERTY>)"
      R"(<PROPERTY NAME="Q" TYPE="uint32"></PROPERTY></INSTANCE></VALUE.OBJECT></DECLGROUP>)");

  ASSERT_TRUE(instance) << instance.error().what;
  EXPECT_EQ(instance->number_or("P", 0), 7u);
  EXPECT_TRUE(instance->at("Q").is_null());
  EXPECT_FALSE(parse_cim_xml("<CLASS/>"));
  EXPECT_FALSE(parse_cim_xml("no XML"));
}

TEST(CimXmlTest, HoldsAnObjectInsideOfAnObjectAsAText) {
  Instance inner{.class_name = "I", .properties = {{"P", Value::text("<x>")}}};
  Instance outer{.class_name = "O", .properties = {{"S", Value::embedded(inner)}}};

  const auto again = parse_cim_xml(to_cim_xml(outer));

  ASSERT_TRUE(again) << again.error().what;
  const auto inside = again->instances("S");
  ASSERT_TRUE(inside) << inside.error().what;
  ASSERT_EQ(inside->size(), 1u);
  EXPECT_EQ(inside->front(), inner);
}

pugi::xml_node body_of(pugi::xml_document& document, const std::string& xml) {
  EXPECT_TRUE(load_xml(document, xml));
  return first_element(child(first_element(document), "Body"));
}

TEST(EnvelopeTest, InvokeCarriesEveryKindOfParameter) {
  const Reference vm{.class_name = "Msvm_ComputerSystem",
                     .keys = {{"CreationClassName", "Msvm_ComputerSystem"}, {"Name", "A<B"}}};
  const Reference target{.class_name = "Msvm_Service", .keys = {{"CreationClassName", "x"}}};
  const Instance settings{.class_name = "S", .properties = {{"P", Value::u8(1)}}};

  const std::string xml =
      write_invoke({.to = "http://h/wsman", .message_id = "id"}, target, "Do",
                   {{"System", Value::reference(vm)},
                    {"Settings", Value::embedded(settings)},
                    {"Many", Value::list({Value::u16(1), Value::null(), Value::u16(3)})},
                    {"Force", Value::flag(false)},
                    {"Nothing", Value::null()}});

  pugi::xml_document document;
  const pugi::xml_node input = body_of(document, xml);
  EXPECT_TRUE(is_named(input, "Do_INPUT"));
  const pugi::xml_node selectors =
      child(child(child(input, "System"), "ReferenceParameters"), "SelectorSet");
  EXPECT_EQ(text_of(selectors.last_child()), "A<B");
  EXPECT_EQ(text_of(child(input, "Settings")), to_cim_xml(settings));
  std::vector<std::string> many;
  for (const pugi::xml_node& node : input.children()) {
    if (is_named(node, "Many")) many.push_back(is_nil(node) ? "nil" : text_of(node));
  }
  EXPECT_EQ(many, (std::vector<std::string>{"1", "nil", "3"}));
  EXPECT_EQ(text_of(child(input, "Force")), "false");
  EXPECT_TRUE(is_nil(child(input, "Nothing")));
  const pugi::xml_node header = child(first_element(document), "Header");
  EXPECT_EQ(text_of(child(header, "Action")), resource_uri(target) + "/Do");
  EXPECT_EQ(text_of(child(header, "OperationTimeout")), "PT60.000S");
}

TEST(EnvelopeTest, AQueryGoesToAllClasses) {
  const std::string xml = write_enumerate({.to = "u", .message_id = "id"}, "root/virtualization/v2",
                                          "SELECT * FROM A", 7);

  pugi::xml_document document;
  const pugi::xml_node enumerate = body_of(document, xml);
  EXPECT_EQ(text_of(child(enumerate, "Filter")), "SELECT * FROM A");
  EXPECT_EQ(text_of(child(enumerate, "MaxElements")), "7");
  EXPECT_TRUE(child(enumerate, "OptimizeEnumeration"));
  EXPECT_TRUE(text_of(child(child(first_element(document), "Header"), "ResourceURI"))
                  .ends_with("/wmi/root/virtualization/v2/*"));
}

}  // namespace
}  // namespace farside::wsman
