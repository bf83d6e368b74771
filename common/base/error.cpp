#include "common/base/error.h"

namespace farside {

std::string_view to_text(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInternal:
      return "Internal";
    case ErrorCode::kInvalidArgument:
      return "InvalidArgument";
    case ErrorCode::kNotFound:
      return "NotFound";
    case ErrorCode::kAlreadyExists:
      return "AlreadyExists";
    case ErrorCode::kConflict:
      return "Conflict";
    case ErrorCode::kUnauthorized:
      return "Unauthorized";
    case ErrorCode::kForbidden:
      return "Forbidden";
    case ErrorCode::kStaleEpoch:
      return "StaleEpoch";
    case ErrorCode::kCorrupt:
      return "Corrupt";
    case ErrorCode::kTooLarge:
      return "TooLarge";
    case ErrorCode::kUnavailable:
      return "Unavailable";
    case ErrorCode::kTimeout:
      return "Timeout";
    case ErrorCode::kNoSpace:
      return "NoSpace";
    case ErrorCode::kTrackingLost:
      return "TrackingLost";
    case ErrorCode::kExpired:
      return "Expired";
    case ErrorCode::kRevoked:
      return "Revoked";
    case ErrorCode::kCancelled:
      return "Cancelled";
    case ErrorCode::kUnsupported:
      return "Unsupported";
    case ErrorCode::kIo:
      return "Io";
    case ErrorCode::kPlatform:
      return "Platform";
    case ErrorCode::kBusy:
      return "Busy";
  }
  return "Unknown";
}

Error Error::in(std::string_view doing) const& {
  return Error{.code = code, .what = std::string(doing) + ": " + what, .advice = advice};
}

bool Error::is_retryable() const {
  switch (code) {
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
    case ErrorCode::kNoSpace:
    case ErrorCode::kIo:
    case ErrorCode::kPlatform:
    case ErrorCode::kTrackingLost:
    case ErrorCode::kBusy:
      return true;
    default:
      return false;
  }
}

std::string to_text(const Error& error) {
  std::string text = std::string(to_text(error.code)) + ": " + error.what;
  if (!error.advice.empty()) text += " (next: " + error.advice + ")";
  return text;
}

}  // namespace farside
