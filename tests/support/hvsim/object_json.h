// Objects of a host as JSON, to outlive it.
#pragma once

#include <nlohmann/json.hpp>

#include "tests/support/hvsim/objects.h"

namespace farside::hvsim {

nlohmann::json to_json(const Reference& reference);
nlohmann::json to_json(const Instance& instance);
// Of what to_json() wrote; anything else throws nlohmann's exceptions.
Reference reference_from(const nlohmann::json& json);
Instance instance_from(const nlohmann::json& json);

}  // namespace farside::hvsim
