#include "tests/support/hvsim/shell_host.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "common/wsman/security_context.h"
#include "common/wsman/shell.h"
#include "common/wsman/uris.h"
#include "common/wsman/xml.h"

namespace farside::hvsim {
namespace {

using namespace wsman;  // The names of WS-Management.

// Faults travel as errors: "subcode|code|text" in `what`.
std::unexpected<Error> fault(const char* subcode, std::uint64_t code, const std::string& text) {
  return fail(ErrorCode::kPlatform, fmt::format("{}|{}|{}", subcode, code, text));
}

std::string fault_body(const std::string& what) {
  const std::size_t first = what.find('|');
  const std::size_t second = what.find('|', first + 1);
  const std::string text = xml_escape(what.substr(second + 1));
  return fmt::format(
      R"(<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>{}</s:Value>)"
      R"(</s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">{}</s:Text></s:Reason><s:Detail>)"
      R"(<f:WSManFault xmlns:f="{}" Code="{}" Machine="hvsim"><f:Message>{}</f:Message>)"
      R"(</f:WSManFault></s:Detail></s:Fault>)",
      what.substr(0, first), text, kWsmanFault, what.substr(first + 1, second - first - 1), text);
}

std::optional<std::string> text_of_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  return std::string{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The name of the script that a line of the shell runs; empty: none that we know.
std::string script_of(const std::string& line) {
  constexpr std::string_view kOption = "-EncodedCommand ";
  const std::size_t at = line.find(kOption);
  if (!line.starts_with("powershell ") || at == std::string::npos) return {};
  const auto wide = from_base64(line.substr(at + kOption.size()));
  if (!wide || wide->size() % 2 != 0) return {};
  std::string script;
  for (std::size_t i = 0; i < wide->size(); i += 2) script += (*wide)[i];
  constexpr std::string_view kMark = "# farside:";
  const std::string first = script.substr(0, script.find_first_of("\r\n"));
  if (!first.starts_with(kMark)) return {};
  const std::string name = first.substr(kMark.size());
  return name.find_first_of("/.") == std::string::npos ? name : "";
}

}  // namespace

std::optional<SoapAnswer> ShellHost::answer(const std::string& envelope) {
  pugi::xml_document document;
  if (!load_xml(document, envelope)) return std::nullopt;
  const pugi::xml_node root = first_element(document);
  const pugi::xml_node header = child(root, "Header");
  if (text_of(child(header, "ResourceURI")) != kShellUri) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const std::string action = text_of(child(header, "Action"));
  const std::string actions = kShellActions;
  std::map<std::string, std::string> options;
  for (const pugi::xml_node& one : child(header, "OptionSet").children()) {
    options[attribute(one, "Name")] = text_of(one);
  }
  const pugi::xml_node body = first_element(child(root, "Body"));
  std::string id;
  for (const pugi::xml_node& one : child(header, "SelectorSet").children()) {
    if (attribute(one, "Name") == "ShellId") id = text_of(one);
  }
  const auto shell = shells_.find(id);
  Result<std::string> said;
  if (action == std::string(kTransfer) + "/Create") {
    said = is_named(body, "Shell") ? create(options["WINRS_CODEPAGE"])
                                   : fault("w:SchemaValidationError", 2150858817, "no Shell");
  } else if (shell == shells_.end()) {
    said = fault("w:InvalidSelectors", 2150858843, "The shell was not found on the server.");
  } else if (action == std::string(kTransfer) + "/Delete") {
    shells_.erase(shell);
    said = "";
  } else if (action == actions + "/Command" && is_named(body, "CommandLine")) {
    std::string line = text_of(child(body, "Command"));
    for (const pugi::xml_node& one : body.children()) {
      if (is_named(one, "Arguments")) line += " " + text_of(one);
    }
    said = start(shell->second, line);
  } else if (action == actions + "/Receive" && is_named(body, "Receive")) {
    said = receive(shell->second, attribute(child(body, "DesiredStream"), "CommandId"));
  } else if (action == actions + "/Signal" && is_named(body, "Signal")) {
    shell->second.erase(attribute(body, "CommandId"));
    said = fmt::format(R"(<rsp:SignalResponse xmlns:rsp="{}"/>)", kShellActions);
  } else {
    said = fault("a:ActionNotSupported", 2150858753, "No such action: " + action);
  }
  return SoapAnswer{
      .status = said ? 200 : 500,
      .xml = fmt::format(
          R"(<s:Envelope xml:lang="en-US" xmlns:s="{}" xmlns:a="{}" xmlns:w="{}"><s:Header>)"
          R"(<a:Action>{}</a:Action><a:MessageID>uuid:{}</a:MessageID><a:To>{}</a:To>)"
          R"(<a:RelatesTo>{}</a:RelatesTo></s:Header><s:Body>{}</s:Body></s:Envelope>)",
          kSoap, kAddressing, kWsman, said ? xml_escape(action + "Response") : kFaultAction,
          random_.uuid(), kAnonymous, xml_escape(text_of(child(header, "MessageID"))),
          said ? *said : fault_body(said.error().what))};
}

Result<std::string> ShellHost::create(const std::string& code_page) {
  if (code_page != "65001") {
    return fault("w:InvalidOptions", 2150858761, "This shell speaks UTF-8 alone.");
  }
  if (shells_.size() >= kShellsMax) {
    return fault("w:QuotaLimit", 2150859173,
                 "This user is allowed a maximum number of concurrent shells, and has them.");
  }
  const std::string id = random_.uuid();
  shells_[id] = {};
  return fmt::format(
      R"(<x:ResourceCreated xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer"><a:Address>)"
      R"({}</a:Address><a:ReferenceParameters><w:ResourceURI>{}</w:ResourceURI><w:SelectorSet>)"
      R"(<w:Selector Name="ShellId">{}</w:Selector></w:SelectorSet></a:ReferenceParameters>)"
      R"(</x:ResourceCreated><rsp:Shell xmlns:rsp="{}"><rsp:ShellId>{}</rsp:ShellId></rsp:Shell>)",
      kAnonymous, kShellUri, id, kShellActions, id);
}

Result<std::string> ShellHost::start(Shell& shell, const std::string& line) {
  const std::string id = random_.uuid();
  shell[id] = run(line);
  return fmt::format(R"(<rsp:CommandResponse xmlns:rsp="{}"><rsp:CommandId>{}</rsp:CommandId>)"
                     R"(</rsp:CommandResponse>)",
                     kShellActions, id);
}

ShellHost::Command ShellHost::run(const std::string& line) const {
  if (line.size() > kCommandCharsMax) {
    return {.errors = "The command line is too long.\r\n", .exit_code = 1};
  }
  const std::string name = script_of(line);
  if (name.empty()) {
    return {.errors = "'" + line.substr(0, 40) + "' is not recognized.\r\n", .exit_code = 1};
  }
  if (const auto error = text_of_file(folder_ + "/" + name + ".error")) {
    return {.errors = *error, .exit_code = 1};
  }
  const auto output = text_of_file(folder_ + "/" + name + ".json");
  if (!output) return {.errors = "no script " + name + "\r\n", .exit_code = 1};
  return {.output = *output, .errors = ""};
}

Result<std::string> ShellHost::receive(Shell& shell, const std::string& id) {
  const auto found = shell.find(id);
  if (found == shell.end()) {
    return fault("w:InvalidSelectors", 2150858843, "The command was not found.");
  }
  Command& command = found->second;
  if (!command.was_asked) {
    command.was_asked = true;
    return fault("w:TimedOut", 2150858793,
                 "The WS-Management service cannot complete the operation within the time "
                 "specified in OperationTimeout.");
  }
  std::string streams;
  const auto piece = [&](const char* name, std::string& bytes) {
    const std::string some = bytes.substr(0, kPieceBytes);
    bytes.erase(0, kPieceBytes);
    if (some.empty()) return;
    streams += fmt::format(R"(<rsp:Stream Name="{}" CommandId="{}">{}</rsp:Stream>)", name, id,
                           to_base64(some));
  };
  piece("stdout", command.output);
  piece("stderr", command.errors);
  const bool is_done = command.output.empty() && command.errors.empty();
  const std::string exit =
      is_done ? fmt::format("<rsp:ExitCode>{}</rsp:ExitCode>", command.exit_code) : "";
  return fmt::format(R"(<rsp:ReceiveResponse xmlns:rsp="{}">{}<rsp:CommandState CommandId="{}" )"
                     R"(State="{}/CommandState/{}">{}</rsp:CommandState></rsp:ReceiveResponse>)",
                     kShellActions, streams, id, kShellActions, is_done ? "Done" : "Running", exit);
}

}  // namespace farside::hvsim
