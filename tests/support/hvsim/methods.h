// Methods of classes: what they take, and who answers them.  This is where an engine that really
// runs virtual machines plugs in: it replaces handlers of the model by its own.
//
// Thread: handlers are called one at a time.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/support/hvsim/objects.h"

namespace farside::hvsim {

enum class ParameterKind { kText, kNumber, kFlag, kReference, kEmbedded };

struct ParameterShape {
  std::string name;
  ParameterKind kind = ParameterKind::kText;
  bool is_array = false;
  bool is_required = false;
};

struct MethodCall {
  Reference target;
  std::map<std::string, Value> parameters;  // Embedded objects are parsed already.

  // Of a given parameter as an instance's property, for its accessors.
  Instance as_instance() const { return {"", {parameters.begin(), parameters.end()}}; }
};

struct MethodResult {
  std::uint64_t return_value = 0;
  wsman::Parameters outputs;
};

struct Method {
  std::vector<ParameterShape> shape;
  // An error becomes a fault of the WMI provider.
  std::function<Result<MethodResult>(const MethodCall& call)> handler;
};

// By "Class/Method".
using Methods = std::map<std::string, Method>;

}  // namespace farside::hvsim
