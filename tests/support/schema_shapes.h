// The structs and unions of all schemas, for tests that treat them alike.
#pragma once

#include <type_traits>
#include <utility>
#include <vector>

#include "common/schema/agent.fields.h"
#include "common/schema/control.fields.h"
#include "common/schema/data.fields.h"
#include "common/schema/envelope.fields.h"
#include "common/schema/flow.fields.h"
#include "common/schema/hyperv.fields.h"
#include "common/schema/replica.fields.h"
#include "common/schema/types.fields.h"
#include "common/schema/vault.fields.h"

namespace farside::test {

struct VisitNothing {
  void operator()(auto&&...) const {}
};
template <class T>
concept Record = requires(T& value) { msg::for_each_field(VisitNothing(), value); };
template <class T>
concept Union = requires { msg::for_each_arm(std::type_identity<T>(), VisitNothing()); };

// Each arm of a union once, with nothing in it.
template <Union T>
std::vector<T> arms_of() {
  std::vector<T> arms;
  msg::for_each_arm(std::type_identity<T>(),
                    [&](const char*, T arm) { arms.push_back(std::move(arm)); });
  return arms;
}

}  // namespace farside::test
