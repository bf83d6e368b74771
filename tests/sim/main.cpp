// farside-sim --seed N: replays one seed and tells its story.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "common/base/log.h"
#include "tests/sim/world.h"

int main(int argc, char** argv) {
  CLI::App app{"Replays a seed of Farside's simulation"};
  std::uint64_t seed = 1;
  std::string level = "off";
  app.add_option("--seed", seed, "Which history")->required();
  app.add_option("--log", level, "debug, info, warn, error or off");
  CLI11_PARSE(app, argc, argv);

  farside::log::set_up("sim", level);
  farside::sim::World world(seed);
  world.run(600);
  world.heal();
  for (int i = 0; i < 40 && !world.is_done(); ++i) world.run(100);
  fmt::print("{}\n{}\n", world.story(),
             world.violated().empty() ? "no promise was broken" : world.violated());
  return world.violated().empty() && world.is_done() ? 0 : 1;
}
