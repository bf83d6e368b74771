// A site's definition from its TOML file: clouds, host groups, VM networks, storage classes.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/schema/control.plain.h"

namespace farside::provider {

// Errors: kInvalidArgument with every mistake found: unknown keys, names used twice, a cloud whose
// host group or network is not defined, an address range that is not one.
Result<msg::SiteDefinition> site_from_toml(std::string_view text, const std::string& name);

}  // namespace farside::provider
