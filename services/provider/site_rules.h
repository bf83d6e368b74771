// What every definition of a site keeps to, wherever it comes from.
#pragma once

#include <string>

#include "common/schema/control.plain.h"

namespace farside::provider {

// All that is wrong with one source, a line each.
struct Mistakes {
  std::string source;
  std::string all;
  void add(const std::string& line);
};

// Names are used once, and what clouds name is there.
void check_names(const msg::SiteDefinition& site, Mistakes& mistakes);
// Addresses and ranges are some.
void check_subnet(const msg::Subnet& subnet, Mistakes& mistakes);

}  // namespace farside::provider
