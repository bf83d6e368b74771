#include "services/vault/front_door/arm_errors.h"

#include <nlohmann/json.hpp>

#include "common/base/advice.h"

namespace farside::front_door {
namespace {

struct Mapping {
  int status;
  std::string_view code;
};

Mapping mapping_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return {400, "InvalidParameter"};
    case ErrorCode::kUnsupported:
      return {400, "OperationNotSupported"};
    case ErrorCode::kExpired:
      return {400, "Expired"};
    case ErrorCode::kUnauthorized:
      return {401, "InvalidAuthenticationToken"};
    case ErrorCode::kForbidden:
      return {403, "AuthorizationFailed"};
    case ErrorCode::kRevoked:
      return {403, "Revoked"};
    case ErrorCode::kNotFound:
      return {404, "ResourceNotFound"};
    case ErrorCode::kAlreadyExists:
      return {409, "ResourceAlreadyExists"};
    case ErrorCode::kConflict:
      return {409, "Conflict"};
    case ErrorCode::kStaleEpoch:
      return {409, "StaleEpoch"};
    case ErrorCode::kCancelled:
      return {409, "Cancelled"};
    case ErrorCode::kBusy:
      return {409, "Busy"};
    case ErrorCode::kTooLarge:
      return {413, "RequestTooLarge"};
    case ErrorCode::kUnavailable:
      return {503, "ServiceUnavailable"};
    case ErrorCode::kTimeout:
      return {504, "GatewayTimeout"};
    case ErrorCode::kNoSpace:
      return {507, "InsufficientStorage"};
    case ErrorCode::kTrackingLost:
      return {500, "TrackingLost"};
    case ErrorCode::kCorrupt:
      return {500, "Corrupt"};
    case ErrorCode::kIo:
      return {500, "InputOutputError"};
    case ErrorCode::kPlatform:
      return {500, "PlatformError"};
    case ErrorCode::kInternal:
      return {500, "InternalServerError"};
  }
  return {500, "InternalServerError"};
}

}  // namespace

HttpResponse arm_error(const ArmError& error) {
  nlohmann::ordered_json body;
  auto& shown = body["error"];
  shown["code"] = error.code;
  shown["message"] = error.message;
  if (!error.target.empty()) shown["target"] = error.target;
  shown["details"] = nlohmann::ordered_json::array();
  if (!error.advice.empty()) {
    shown["details"].push_back({{"code", "RecommendedAction"}, {"message", error.advice}});
  }
  HttpResponse response{.status = error.status};
  // Texts may quote what a client sent, whatever bytes that was.
  response.body = body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  // Clients of the SDKs repeat these by themselves, at this pace.
  if (error.status == 503 || error.status == 429) response.headers = {{"Retry-After", "1"}};
  return response;
}

HttpResponse arm_error(const Error& error) {
  const Mapping mapping = mapping_of(error.code);
  return arm_error(ArmError{.status = mapping.status,
                            .code = std::string(mapping.code),
                            .message = error.what,
                            .advice = advice_of(error)});
}

int http_status(ErrorCode code) {
  return mapping_of(code).status;
}
std::string_view arm_code(ErrorCode code) {
  return mapping_of(code).code;
}

}  // namespace farside::front_door
