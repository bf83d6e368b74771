// Commands by a host's shell, against a host that says what the test wants.
#include "common/wsman/shell.h"

#include <gtest/gtest.h>

#include "tests/unit/wsman/scripted_channel.h"

namespace farside::wsman::test {
namespace {

const std::string kShellOpen = in_envelope("<r:Shell><r:ShellId>S1</r:ShellId></r:Shell>");
const std::string kCommandStarted =
    in_envelope("<r:CommandResponse><r:CommandId>C1</r:CommandId></r:CommandResponse>");

std::string received(const std::string& streams, const std::string& state,
                     const std::string& exit = "") {
  return in_envelope("<r:ReceiveResponse>" + streams + "<r:CommandState State=\"" + kShellActions +
                     "/CommandState/" + state + "\">" + exit +
                     "</r:CommandState></r:ReceiveResponse>");
}

// A host whose Receives are answered by `answers`, one after the other, then by the last.
struct Host {
  std::vector<std::string> answers;
  std::vector<std::string> actions{};
  std::string last{};
  Micros takes{0};  // Each answer.
  StillClock clock{};
  SystemRandom random{};

  Shell shell() {
    auto answer = [this](const std::string& envelope) -> Result<SoapReply> {
      clock.at += takes;
      last = envelope;
      const std::size_t at = envelope.find("<a:Action");
      const std::string uri = envelope.substr(at, envelope.find("</a:Action>") - at);
      actions.push_back(uri.substr(uri.rfind('/') + 1));
      std::string xml = in_envelope("<r:Ok/>");
      if (actions.back() == "Create") xml = kShellOpen;
      if (actions.back() == "Command") xml = kCommandStarted;
      if (actions.back() == "Receive") {
        xml = answers.front();
        if (answers.size() > 1) answers.erase(answers.begin());
      }
      return SoapReply{.status = 200, .xml = xml};
    };
    return Shell({.url = "https://host:5986/wsman"}, std::make_unique<ScriptedChannel>(answer),
                 clock, random);
  }
};

TEST(ShellTest, OutputComesInPiecesUntilTheCommandIsDone) {
  Host host{.answers = {received("<r:Stream Name=\"stdout\">aGVs</r:Stream>", "Running"),
                        fault("w:TimedOut", "2150858793", "nothing yet"),
                        received("<r:Stream Name=\"stdout\">bG8=</r:Stream>"
                                 "<r:Stream Name=\"stderr\">ISE=</r:Stream>",
                                 "Done", "<r:ExitCode>3</r:ExitCode>")}};
  Shell shell = host.shell();

  const auto result = shell.run({.program = "a<b", .arguments = {"c&d"}}, Micros{60'000'000});

  ASSERT_TRUE(result) << to_text(result.error());
  EXPECT_EQ(result->output, "hello");
  EXPECT_EQ(result->errors, "!!");
  EXPECT_EQ(result->exit_code, 3);
  EXPECT_EQ(host.actions, (std::vector<std::string>{"Create", "Command", "Receive", "Receive",
                                                    "Receive", "Signal"}));
  EXPECT_NE(host.last.find(R"(Name="ShellId">S1<)"), std::string::npos) << host.last;
  EXPECT_TRUE(shell.close());
  EXPECT_EQ(host.actions.back(), "Delete");
  EXPECT_TRUE(shell.close());  // There is none any more.
  EXPECT_EQ(host.actions.size(), 7u);
}

TEST(ShellTest, ACommandThatDoesNotEndIsEnded) {
  Host host{.answers = {fault("w:TimedOut", "2150858793", "nothing yet")},
            .takes = Micros{20'000'000}};
  Shell shell = host.shell();

  const auto result = shell.run({.program = "hang"}, Micros{120'000'000});

  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kTimeout);
  EXPECT_EQ(host.actions.back(), "Signal");
}

TEST(ShellTest, ExitCodesMayBeNegativeButMustBeNumbers) {
  Host host{.answers = {received("", "Done", "<r:ExitCode>-1073741510</r:ExitCode>")}};
  const auto negative = host.shell().run({.program = "x"}, Micros{1'000'000});
  ASSERT_TRUE(negative);
  EXPECT_EQ(negative->exit_code, -1073741510);

  Host odd{.answers = {received("", "Done", "<r:ExitCode>none</r:ExitCode>")}};
  const auto refused = odd.shell().run({.program = "x"}, Micros{1'000'000});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
}

TEST(ShellTest, AnswersThatAreNoneAreRefused) {
  for (const std::string& answer : {in_envelope("<r:Other/>"), std::string("no XML"),
                                    received("<r:Stream Name=\"stdout\">***</r:Stream>", "Done")}) {
    Host host{.answers = {answer}};
    const auto result = host.shell().run({.program = "x"}, Micros{1'000'000});
    ASSERT_FALSE(result) << answer;
    EXPECT_EQ(result.error().code, ErrorCode::kCorrupt) << answer;
  }
}

TEST(ShellTest, AScriptIsUtf16InBase64) {
  const Command command = powershell("Hi");

  EXPECT_EQ(command.program, "powershell");
  EXPECT_EQ(command.arguments.back(), "SABpAA==");
}

}  // namespace
}  // namespace farside::wsman::test
