// What hosts answer.
#include "common/wsman/reply.h"

#include <gtest/gtest.h>

#include "tests/unit/wsman/scripted_channel.h"

namespace farside::wsman {
namespace {

using test::fault;
using test::in_envelope;

TEST(ReplyTest, KeepsThePlacesOfNullsInArrays) {
  const auto object =
      read_object(in_envelope(R"(<p:A><p:IP>10.0.0.1</p:IP><p:IP xsi:nil="true"/><p:IP>::1</p:IP>)"
                              R"(<p:None xsi:nil="true"/><p:Name> two  words </p:Name></p:A>)"));

  ASSERT_TRUE(object) << object.error().what;
  EXPECT_EQ(object->class_name, "A");
  EXPECT_EQ(object->texts("IP"), (std::vector<std::string>{"10.0.0.1", "", "::1"}));
  EXPECT_TRUE(object->list("IP")[1].is_null());
  EXPECT_TRUE(object->at("None").is_null());
  EXPECT_TRUE(object->list("None").empty());
  EXPECT_EQ(object->text("Name"), " two  words ");
  EXPECT_EQ(object->texts("Name").size(), 1u);
}

TEST(ReplyTest, ReadsTimesReferencesAndEmbeddedObjects) {
  const auto object = read_object(in_envelope(
      R"(<p:A><p:When><cim:Datetime>2026-03-01T00:00:00Z</cim:Datetime></p:When><p:Ref>)"
      R"(<a:Address>x</a:Address><a:ReferenceParameters><w:ResourceURI>)"
      R"(http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_ConcreteJob)"
      R"(</w:ResourceURI><w:SelectorSet><w:Selector Name="InstanceID">J</w:Selector>)"
      R"(<w:Selector Name="__cimnamespace">root/virtualization/v2</w:Selector></w:SelectorSet>)"
      R"(</a:ReferenceParameters></p:Ref><p:Set>&lt;INSTANCE CLASSNAME="S"&gt;&lt;PROPERTY )"
      R"(NAME="P" TYPE="uint16"&gt;&lt;VALUE&gt;4&lt;/VALUE&gt;&lt;/PROPERTY&gt;&lt;/INSTANCE&gt;)"
      R"(</p:Set><p:Tree><p:X>1</p:X></p:Tree></p:A>)"));

  ASSERT_TRUE(object) << object.error().what;
  EXPECT_EQ(object->text("When"), "2026-03-01T00:00:00Z");
  const auto reference = object->reference("Ref");
  ASSERT_TRUE(reference) << reference.error().what;
  EXPECT_EQ(reference->class_name, "Msvm_ConcreteJob");
  EXPECT_EQ(reference->key("InstanceID"), "J");
  const auto embedded = object->instances("Set");
  ASSERT_TRUE(embedded) << embedded.error().what;
  EXPECT_EQ(embedded->at(0).number_or("P", 0), 4u);
  const auto tree = object->instances("Tree");
  ASSERT_TRUE(tree) << tree.error().what;
  EXPECT_EQ(tree->at(0).text("X"), "1");
  EXPECT_EQ(object->reference("Nothing").error().code, ErrorCode::kNotFound);
}

TEST(ReplyTest, FaultsBecomeErrorsOfTheirKind) {
  const auto code_of = [](const std::string& subcode, const std::string& code) {
    const auto object = read_object(fault(subcode, code, "words"));
    EXPECT_FALSE(object);
    EXPECT_TRUE(object.error().what.contains("words")) << object.error().what;
    return object.error().code;
  };

  EXPECT_EQ(code_of("w:AccessDenied", "5"), ErrorCode::kForbidden);
  EXPECT_EQ(code_of("w:InternalError", "2147749891"), ErrorCode::kForbidden);
  EXPECT_EQ(code_of("w:InternalError", "2147749890"), ErrorCode::kNotFound);
  EXPECT_EQ(code_of("a:DestinationUnreachable", "2150858752"), ErrorCode::kNotFound);
  EXPECT_EQ(code_of("w:TimedOut", "2150858793"), ErrorCode::kTimeout);
  EXPECT_EQ(code_of("w:EncodingLimit", "2150858788"), ErrorCode::kTooLarge);
  EXPECT_EQ(code_of("w:QuotaLimit", "2150859174"), ErrorCode::kUnavailable);
  EXPECT_EQ(code_of("w:InternalError", "3225026608"), ErrorCode::kTrackingLost);
  EXPECT_EQ(code_of("w:SchemaValidationError", "2150858817"), ErrorCode::kPlatform);
  const auto object = read_object(fault("w:SchemaValidationError", "2150858817", "words"));
  EXPECT_TRUE(object.error().what.contains("SchemaValidationError"));
  EXPECT_TRUE(object.error().what.contains("0x80338041")) << object.error().what;
  EXPECT_FALSE(object.error().advice.empty());
}

TEST(ReplyTest, OtherTextsAreCorrupt) {
  EXPECT_EQ(read_object("<html></html>").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(read_object("").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(read_object(in_envelope("")).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(read_output(in_envelope("<p:Other_OUTPUT/>"), "Do").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(read_page(in_envelope("<p:A/>")).error().code, ErrorCode::kCorrupt);
}

TEST(ReplyTest, DeepTreesAreCutAndNotFollowed) {
  std::string deep;
  for (int i = 0; i < 20'000; ++i) deep += "<p:D>";
  for (int i = 0; i < 20'000; ++i) deep += "</p:D>";

  EXPECT_TRUE(read_object(in_envelope("<p:A>" + deep + "</p:A>")));
}

TEST(ClientTest, FollowsAnEnumerationToItsEnd) {
  SeededRandom random(1);
  int pages = 0;
  Client client = test::client_of(
      [&](const std::string& envelope) -> Result<SoapReply> {
        ++pages;
        EXPECT_EQ(envelope.contains("/Pull<"), pages > 1) << envelope;
        EXPECT_EQ(envelope.contains("context-" + std::to_string(pages - 1)), pages > 1);
        const std::string items =
            "<n:Items><p:A><p:N>" + std::to_string(pages) + "</p:N></p:A></n:Items>";
        const std::string end = pages == 3 ? "<n:EndOfSequence/>"
                                           : "<n:EnumerationContext>context-" +
                                                 std::to_string(pages) + "</n:EnumerationContext>";
        const std::string name = pages == 1 ? "EnumerateResponse" : "PullResponse";
        return SoapReply{200, in_envelope("<n:" + name + ">" + end + items + "</n:" + name + ">")};
      },
      random);

  const auto found = client.query("SELECT * FROM A");

  ASSERT_TRUE(found) << found.error().what;
  ASSERT_EQ(found->size(), 3u);
  EXPECT_EQ(found->at(2).text("N"), "3");
}

}  // namespace
}  // namespace farside::wsman
