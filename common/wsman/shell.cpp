#include "common/wsman/shell.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>

#include "common/wsman/reply_body.h"
#include "common/wsman/security_context.h"
#include "common/wsman/uris.h"
#include "common/wsman/xml.h"

namespace farside::wsman {
namespace {

// A host answers Receive after this time even if there was no output: by a fault.
constexpr Micros kReceiveWithin{20'000'000};
constexpr Micros kAnswerSlack{10'000'000};
constexpr const char* kEnd = "/signal/terminate";
constexpr const char* kDone = "/CommandState/Done";

std::unexpected<Error> unexpected_reply(const pugi::xml_node& node, std::string_view wanted) {
  return fail(ErrorCode::kCorrupt,
              fmt::format("{} in the reply instead of {}", std::string(node.name()), wanted));
}

std::string stream_body(const std::string& name, const std::string& inside) {
  return fmt::format(R"(<rsp:{} xmlns:rsp="{}"{}</rsp:{}>)", name, kShellActions, inside, name);
}

// What one Receive brought; true: the command has ended.
Result<bool> take_output(const std::string& xml, CommandResult& result) {
  pugi::xml_document document;
  FARSIDE_ASSIGN(const pugi::xml_node body, read_body(document, xml));
  if (!is_named(body, "ReceiveResponse")) return unexpected_reply(body, "ReceiveResponse");
  bool ended = false;
  for (const pugi::xml_node& one : body.children()) {
    if (is_named(one, "Stream")) {
      FARSIDE_ASSIGN(const std::string bytes, from_base64(text_of(one)));
      const std::string name = attribute(one, "Name");
      if (name == "stdout") result.output += bytes;
      if (name == "stderr") result.errors += bytes;
    } else if (is_named(one, "CommandState")) {
      ended = attribute(one, "State").ends_with(kDone);
      if (const pugi::xml_node code = child(one, "ExitCode")) {
        const std::string text = text_of(code);
        std::int64_t number = 0;  // Some hosts show a DWORD, others an int.
        const char* end = text.data() + text.size();
        const auto [at, error] = std::from_chars(text.data(), end, number);
        if (error != std::errc{} || at != end) {
          return fail(ErrorCode::kCorrupt, "an exit code that is no number");
        }
        result.exit_code = static_cast<int>(number);
      }
    }
  }
  if (result.output.size() + result.errors.size() > kOutputBytesMax) {
    return fail(ErrorCode::kTooLarge, "the command says more than can be taken");
  }
  return ended;
}

}  // namespace

Command powershell(std::string_view script) {
  std::string wide;  // UTF-16, little-endian; scripts are of ASCII.
  for (const char c : script) {
    wide += c;
    wide += '\0';
  }
  return {.program = "powershell",
          .arguments = {"-NoProfile", "-NonInteractive", "-OutputFormat", "Text", "-EncodedCommand",
                        to_base64(wide)}};
}

Shell::Shell(ClientOptions options, std::unique_ptr<Channel> channel, const Clock& clock,
             Random& random)
    : options_(std::move(options)), channel_(std::move(channel)), clock_(clock), random_(random) {}

Result<std::string> Shell::ask(const std::string& action, const std::string& body,
                               const std::map<std::string, std::string>& options) {
  Target target{.resource_uri = kShellUri, .selectors = {}, .options = options};
  if (!id_.empty()) target.selectors["ShellId"] = id_;
  const EnvelopeFrame frame{.to = options_.url,
                            .message_id = random_.uuid(),
                            .envelope_bytes_max = options_.envelope_bytes_max,
                            .operation_within = kReceiveWithin};
  FARSIDE_ASSIGN(SoapReply reply, channel_->ask(write_envelope(frame, target, action, body),
                                                kReceiveWithin + kAnswerSlack));
  if (reply.xml.empty()) {
    return fail(ErrorCode::kPlatform,
                fmt::format("{} answered {} and nothing else", options_.url, reply.status),
                "check that the URL is that of the host's WinRM");
  }
  return std::move(reply.xml);
}

Status Shell::open() {
  if (!id_.empty()) return {};
  FARSIDE_ASSIGN(const std::string xml,
                 ask(std::string(kTransfer) + "/Create",
                     stream_body("Shell",
                                 "><rsp:InputStreams>stdin</rsp:InputStreams>"
                                 "<rsp:OutputStreams>stdout stderr</rsp:OutputStreams>"),
                     {{"WINRS_CODEPAGE", "65001"}, {"WINRS_NOPROFILE", "TRUE"}}));
  pugi::xml_document document;
  FARSIDE_TRY(read_body(document, xml));
  // The Shell in the body names itself; hosts that send none refer to it by a selector.
  const pugi::xml_node soap_body = child(first_element(document), "Body");
  for (const pugi::xml_node& one : soap_body.children()) {
    if (is_named(one, "Shell")) id_ = text_of(child(one, "ShellId"));
    if (id_.empty() && is_named(one, "ResourceCreated")) {
      const pugi::xml_node set = child(child(one, "ReferenceParameters"), "SelectorSet");
      for (const pugi::xml_node& key : set.children()) {
        if (attribute(key, "Name") == "ShellId") id_ = text_of(key);
      }
    }
  }
  if (id_.empty()) return fail(ErrorCode::kCorrupt, "the host's shell has no ShellId");
  return {};
}

Result<CommandResult> Shell::run(const Command& command, Micros within) {
  const Micros until = clock_.monotonic() + within;
  FARSIDE_TRY(open());
  std::string inside = fmt::format("><rsp:Command>{}</rsp:Command>", xml_escape(command.program));
  for (const std::string& argument : command.arguments) {
    inside += fmt::format("<rsp:Arguments>{}</rsp:Arguments>", xml_escape(argument));
  }
  const auto answer =
      ask(std::string(kShellActions) + "/Command", stream_body("CommandLine", inside),
          {{"WINRS_CONSOLEMODE_STDIN", "TRUE"}, {"WINRS_SKIP_CMD_SHELL", "FALSE"}});
  if (!answer) return fail(answer.error());
  pugi::xml_document document;
  FARSIDE_ASSIGN(const pugi::xml_node body, read_body(document, *answer));
  const std::string id = text_of(child(body, "CommandId"));
  if (!is_named(body, "CommandResponse") || id.empty()) {
    return unexpected_reply(body, "CommandResponse");
  }
  auto result = receive(id, until);
  // Also a command that has ended keeps its place in the shell until it is told that we know.
  const Status ended = signal_end(id);
  if (!result) return result;
  if (!ended) return fail(ended.error());
  return result;
}

Result<CommandResult> Shell::receive(const std::string& command, Micros until) {
  CommandResult result;
  const std::string wanted =
      fmt::format(R"(><rsp:DesiredStream CommandId="{}">stdout stderr</rsp:DesiredStream>)",
                  xml_escape(command));
  while (true) {
    if (clock_.monotonic() >= until) {
      return fail(ErrorCode::kTimeout, "the command did not end in time",
                  "see what keeps the host busy");
    }
    FARSIDE_ASSIGN(const std::string xml,
                   ask(std::string(kShellActions) + "/Receive", stream_body("Receive", wanted)));
    const auto ended = take_output(xml, result);
    if (ended && *ended) return result;
    // That there was no output in a while is a fault, too.
    if (!ended && ended.error().code != ErrorCode::kTimeout) return fail(ended.error());
  }
}

Status Shell::signal_end(const std::string& command) {
  const std::string inside = fmt::format(R"( CommandId="{}"><rsp:Code>{}{}</rsp:Code>)",
                                         xml_escape(command), kShellActions, kEnd);
  FARSIDE_ASSIGN(const std::string xml,
                 ask(std::string(kShellActions) + "/Signal", stream_body("Signal", inside)));
  pugi::xml_document document;
  FARSIDE_TRY(read_body(document, xml));
  return {};
}

Status Shell::close() {
  if (id_.empty()) return {};
  const auto answer = ask(std::string(kTransfer) + "/Delete", "");
  id_.clear();
  if (!answer) return fail(answer.error());
  pugi::xml_document document;
  FARSIDE_TRY(read_body(document, *answer));
  return {};
}

}  // namespace farside::wsman
