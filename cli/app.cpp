#include "cli/app.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "cli/commands.h"
#include "common/base/advice.h"
#include "common/base/similar.h"
#include "common/base/version.h"

namespace farside::cli {
namespace {

void report(const Error& error, bool as_json, std::ostream& err) {
  if (as_json) {
    err << Json{{"error",
                 {{"code", std::string(to_text(error.code))},
                  {"message", error.what},
                  {"advice", advice_of(error)}}}}
               .dump(2, ' ', false, Json::error_handler_t::replace)
        << "\n";
    return;
  }
  err << "farside: " << error.what << "\nnext: " << advice_of(error) << "\n";
}

int execute(Commands& commands, const Settings& given, bool no_wait, Screen& screen, Error& why) {
  std::optional<int> code;
  const auto done = [&]() -> Status {
    FARSIDE_ASSIGN(const Settings settings, complete(given));
    FARSIDE_ASSIGN(std::string token, read_token(settings));
    VaultClient vault(settings, std::move(token));
    const SystemClock clock;
    Session session{.settings = settings,
                    .vault = vault,
                    .paths = Paths(settings),
                    .screen = screen,
                    .clock = clock,
                    .wait = !no_wait,
                    .needs_operator = false};
    auto status = commands.chosen(session);
    if (session.needs_operator) code = kNeedsOperator;
    return status;
  }();
  if (done) return kDone;
  why = done.error();
  return code.value_or(exit_code(why.code));
}

// Options that stand with every command are told with every command.
class Help final : public CLI::Formatter {
 public:
  std::string make_footer(const CLI::App* app) const override {
    if (app->get_parent() == nullptr) return Formatter::make_footer(app);
    const CLI::App* top = app;
    while (top->get_parent() != nullptr) top = top->get_parent();
    std::string out = "With every command:\n";
    for (const CLI::Option* option : top->get_options()) {
      const auto& names = option->get_lnames();
      if (names.empty() || names.front() == "help" || names.front() == "version") continue;
      out += make_option(option, false);
    }
    return Formatter::make_footer(app) + out;
  }
};

std::vector<std::string> names_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* sub : command.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

std::vector<std::string> options_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* app = &command; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  return names;
}

// What is wrong with the command line, and what was probably meant.
Error usage_error(const CLI::App& app, const CLI::ParseError& problem) {
  const CLI::App* command = &app;
  std::string path = app.get_name();
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().back();
    path += " " + command->get_name();
  }
  Error error{.code = ErrorCode::kInvalidArgument, .what = problem.what(), .advice = ""};
  std::string meant;
  const auto rest = app.remaining(/*recurse=*/true);
  const auto names = names_of(*command);
  for (const std::string& word : rest) {
    if (word.starts_with('-')) {
      meant = nearest_of(options_of(*command), word.substr(0, word.find('=')));
    } else if (!names.empty()) {
      error.what = fmt::format("`{}` has no command '{}'", path, word);
      meant = nearest_of(names, word);
      if (!meant.empty()) meant = path + " " + meant;
    } else {
      continue;
    }
    break;
  }
  if (!meant.empty()) {
    error.advice = fmt::format("did you mean `{}`?", meant);
  } else if (!names.empty()) {
    error.advice =
        fmt::format("its commands are {}; see `{} --help`", fmt::join(names, ", "), path);
  } else {
    error.advice = fmt::format("see `{} --help`", path);
  }
  return error;
}

void add_global_options(CLI::App& app, Settings& given, bool& no_wait) {
  app.set_version_flag("--version", "farside " + std::string(kVersion));
  app.add_option("--vault-url", given.url, "https://HOST:PORT of the vault [FARSIDE_URL]");
  app.add_option("--ca", given.ca_file, "The vault's ca.pem [FARSIDE_CA]");
  app.add_option("--token-file", given.token_file,
                 "File with the bearer token [FARSIDE_TOKEN_FILE]");
  app.add_option("--subscription", given.subscription, "Default: farside");
  app.add_option("--group", given.group, "Resource group; default: farside");
  app.add_option("--vault", given.vault, "The vault's name; default: farside");
  app.add_flag("--json", given.json, "Results and errors as JSON");
  app.add_flag("--no-wait", no_wait, "Start the job and return its id");
  app.footer(
      "Exit codes: 0 done, 1 operation or job failed, 2 wrong usage, 3 vault unreachable,\n"
      "4 not authorised, 5 not found, 6 the job waits for an operator.");
}

}  // namespace

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return kUsage;
    case ErrorCode::kUnavailable:
      return kUnreachable;
    case ErrorCode::kUnauthorized:
    case ErrorCode::kForbidden:
      return kNotAuthorised;
    case ErrorCode::kNotFound:
      return kMissing;
    default:
      return kFailed;
  }
}

int run(std::vector<std::string> arguments, std::ostream& out, std::ostream& err,
        bool is_terminal) {
  CLI::App app("farside: keep a second site ready to take over the virtual machines of the first");
  app.name("farside");
  app.require_subcommand(1);
  app.fallthrough();  // Global options may stand after the command too.
  app.formatter_fn([help = Help()](const CLI::App* of, std::string name, CLI::AppFormatMode mode) {
    return help.make_help(of, std::move(name), mode);
  });
  Settings given;
  bool no_wait = false;
  add_global_options(app, given, no_wait);
  Commands commands(app);
  add_setup_commands(commands);
  add_policy_commands(commands);
  add_protect_commands(commands);
  add_job_commands(commands);
  add_watch_command(commands);
  add_completion_command(commands);

  const bool as_json = std::ranges::find(arguments, "--json") != arguments.end();
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.emplace_back("--help");
  }
  std::ranges::reverse(arguments);  // CLI11 takes them last first.
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& problem) {
    if (problem.get_exit_code() == 0) {
      app.exit(problem, out, err);
      return kDone;
    }
    report(usage_error(app, problem), as_json, err);
    return kUsage;
  }
  if (commands.chosen_local) {
    commands.chosen_local(out);
    return kDone;
  }
  Screen screen(out, is_terminal && !given.json);
  Error why;
  const int code = execute(commands, given, no_wait, screen, why);
  if (code == kDone) return kDone;
  out << std::flush;
  report(why, given.json, err);
  return code;
}

}  // namespace farside::cli
