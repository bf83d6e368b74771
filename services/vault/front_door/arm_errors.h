// Errors as Azure Resource Manager clients expect them:
//   {"error": {"code", "message", "target", "details": [{"code", "message"}]}}
// What the operator does next travels as a detail with code "RecommendedAction".
#pragma once

#include <string>
#include <string_view>

#include "common/base/error.h"
#include "services/vault/front_door/http.h"

namespace farside::front_door {

struct ArmError {
  int status = 500;
  std::string code;
  std::string message;
  std::string advice = {};
  std::string target = {};
};

HttpResponse arm_error(const ArmError& error);
HttpResponse arm_error(const Error& error);

// The HTTP status and ARM code that stand for one of ours: kNotFound -> 404 "ResourceNotFound".
int http_status(ErrorCode code);
std::string_view arm_code(ErrorCode code);

}  // namespace farside::front_door
