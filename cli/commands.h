// The command line: every command registers itself with its options and what it does.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <ostream>
#include <utility>
#include <vector>

#include "cli/session.h"

namespace farside::cli {

class Commands final {
 public:
  explicit Commands(CLI::App& app_in) : app(app_in) {}

  // Storage for a command's options, which CLI11 fills by reference.
  template <class Options>
  Options& keep() {
    auto kept = std::make_unique<KeptOf<Options>>();
    Options& options = kept->options;
    kept_.push_back(std::move(kept));
    return options;
  }

  void on(CLI::App* command, std::function<Status(Session&)> run) {
    command->callback([this, run = std::move(run)] { chosen = run; });
  }

  CLI::App& app;
  std::function<Status(Session&)> chosen;           // Of the command line just parsed.
  std::function<void(std::ostream&)> chosen_local;  // For a command that needs no vault.

 private:
  struct Kept {
    virtual ~Kept() = default;
  };
  template <class Options>
  struct KeptOf final : Kept {
    Options options;
  };
  std::vector<std::unique_ptr<Kept>> kept_;
};

void add_setup_commands(Commands& commands);              // vault, key, identity, site, host, vm
void add_policy_commands(Commands& commands);             // policy, pair, network-map, storage-map
void add_protect_commands(Commands& commands);            // protect, item, points, failovers
void add_plan_command(Commands& commands, CLI::App& vm);  // vm plan
void add_job_commands(Commands& commands);                // jobs
void add_watch_command(Commands& commands);
void add_completion_command(Commands& commands);

}  // namespace farside::cli
