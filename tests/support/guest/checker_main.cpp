// farside-checker: proves that disks hold a prefix of what the witness guest wrote (checker.h).
//
//   farside-checker [--acknowledged N] [--no-fill] [--blank-is-ok] DISK...
//
// DISK: a raw or qcow2 file that no virtual machine is using, or an NBD URI; in the guest's order.
// Prints a JSON object.  Exit code: 0 = good, 1 = not good, 2 = cannot tell.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "tests/support/guest/checker.h"

int main(int argc, char** argv) {
  using namespace farside;
  CLI::App app("Proves that disks hold a prefix of what the witness guest wrote.",
               "farside-checker");
  std::vector<std::string> sources;
  guest::CheckOptions options;
  bool no_fill = false;
  app.add_option("disk", sources, "Raw or qcow2 file, or NBD URI, in the guest's order")
      ->required();
  app.add_option("--acknowledged", options.acknowledged, "The newest record must be at least this");
  app.add_flag("--no-fill", no_fill, "Do not compare the fill behind the records");
  app.add_flag("--blank-is-ok", options.blank_is_ok, "Accept disks that no witness prepared yet");
  CLI11_PARSE(app, argc, argv);
  options.fill = !no_fill;

  std::vector<std::unique_ptr<guest::Image>> disks;
  for (const std::string& source : sources) {
    auto image = guest::open_image(source);
    if (!image) {
      fmt::print(stderr, "farside-checker: {}\n", to_text(image.error()));
      return 2;
    }
    disks.push_back(std::move(*image));
  }
  const auto verdict = guest::check(disks, options);
  if (!verdict) {
    fmt::print(stderr, "farside-checker: {}\n", to_text(verdict.error()));
    return 2;
  }
  fmt::print("{}\n", guest::to_json(*verdict));
  return verdict->ok ? 0 : 1;
}
