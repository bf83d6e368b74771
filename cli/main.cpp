#include <unistd.h>

#include <iostream>

#include "cli/app.h"

int main(int argc, char** argv) {
  return farside::cli::run({argv + 1, argv + argc}, std::cout, std::cerr,
                           ::isatty(STDOUT_FILENO) == 1);
}
