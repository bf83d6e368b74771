// What has no plain form is refused with words that say what to write instead.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace farside::plainc {
namespace {

struct Outcome {
  int exit_code = 0;
  std::string output;
};

class PlaincTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "farside-plainc-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Outcome compile(const std::string& body) const {
    const std::string file = folder_ + "/bad.capnp";
    std::ofstream(file) << "@0xd1c9a1f0b7e3b001;\n"
                           "using Plain = import \"/common/schema/annotations.capnp\";\n"
                        << body;
    const std::string command = std::string(FARSIDE_CAPNP) + " compile --src-prefix=" + folder_ +
                                " -I" + FARSIDE_SOURCE + " -o" + FARSIDE_PLAINC + ":" + folder_ +
                                " " + file + " 2>&1";
    Outcome outcome;
    FILE* pipe = popen(command.c_str(), "r");
    if (pipe == nullptr) return {.exit_code = -1, .output = "popen failed"};
    char buffer[256];
    while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) outcome.output += buffer;
    const int status = pclose(pipe);
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return outcome;
  }

  void expect_refused(const std::string& body, const std::string& word) const {
    const Outcome outcome = compile(body);
    EXPECT_NE(outcome.exit_code, 0) << body;
    EXPECT_NE(outcome.output.find(word), std::string::npos) << outcome.output;
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/bad.plain.h")) << body;
  }

  std::string folder_;
};

TEST_F(PlaincTest, AcceptsAPlainStruct) {
  const Outcome outcome = compile("struct Good { a @0 :Text $Plain.optional; }");

  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/bad.plain.h"));
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/bad.plain.cpp"));
}

TEST_F(PlaincTest, RefusesWhatHasNoPlainForm) {
  expect_refused("struct A { a @0 :UInt8; g :group { x @1 :UInt8; } }", "groups");
  expect_refused("struct A { u :union { x @0 :UInt8; y @1 :UInt8; } }", "named unions");
  expect_refused("struct A { a @0 :AnyPointer; }", "AnyPointer");
  expect_refused("struct A { struct B { x @0 :UInt8; } b @0 :B; }", "top of the file");
  expect_refused("struct A { more @0 :List(A); }", "contains itself");
  expect_refused("interface I { go @0 (); }", "interfaces");
  expect_refused("struct A(T) { a @0 :T; }", "generic");
  expect_refused("struct A { a @0 :Text = \"x\"; }", "default");
  expect_refused("struct A { a @0 :UInt8 $Plain.optional; }", "$optional");
}

TEST_F(PlaincTest, RefusesUnionsThatAreNoVariant) {
  expect_refused("struct B {} struct A { a @0 :UInt8; union { x @1 :B; y @2 :Void; } }",
                 "nothing else");
  expect_refused("struct B {} struct A { union { x @0 :B; y @1 :UInt8; } }", "must be structs");
  expect_refused("struct B {} struct A { union { x @0 :B; y @1 :B; } }", "two arms");
}

}  // namespace
}  // namespace farside::plainc
