// `farside completion bash`: a script made from the command line as it is defined.
#include "cli/commands.h"

namespace farside::cli {
namespace {

std::string words_of(const CLI::App& command) {
  std::string words;
  for (const CLI::App* sub : command.get_subcommands({})) words += sub->get_name() + " ";
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) words += "--" + name + " ";
  }
  return words;
}

void add_cases(const CLI::App& command, const std::string& path, std::string& cases) {
  cases += "    \"" + path + "\") words=\"" + words_of(command) + "\" ;;\n";
  for (const CLI::App* sub : command.get_subcommands({})) {
    add_cases(*sub, path + (path.empty() ? "" : " ") + sub->get_name(), cases);
  }
}

// "--ca|--name|…": options whose next word is their value, and no command.
void add_valued(const CLI::App& command, std::string& pattern) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_type_size() == 0) continue;
    for (const std::string& name : option->get_lnames()) {
      pattern += (pattern.empty() ? "--" : "|--") + name;
    }
  }
  for (const CLI::App* sub : command.get_subcommands({})) add_valued(*sub, pattern);
}

std::string bash_script(const CLI::App& app) {
  std::string cases;
  add_cases(app, "", cases);
  std::string valued;
  add_valued(app, valued);
  return R"(# Completion of farside for bash: source this file.
_farside() {
  local current="${COMP_WORDS[COMP_CWORD]}" path="" word words is_value=""
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [[ -n "$is_value" ]]; then is_value=""; continue; fi
    case "$word" in
    )" + valued +
         R"() is_value=1 ;;
    -*) ;;
    *) path="${path:+$path }$word" ;;
    esac
  done
  while true; do
    case "$path" in
)" + cases +
         R"(    *) if [[ "$path" == *" "* ]]; then path="${path% *}"; else path=""; fi; continue ;;
    esac
    break
  done
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _farside farside
)";
}

}  // namespace

void add_completion_command(Commands& commands) {
  auto* completion = commands.app.add_subcommand("completion", "Completion scripts for shells");
  completion->require_subcommand(1);
  completion->add_subcommand("bash", "Source its output")->callback([&commands] {
    commands.chosen_local = [&commands](std::ostream& out) { out << bash_script(commands.app); };
  });
}

}  // namespace farside::cli
