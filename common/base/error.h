// What can go wrong, as a closed list: every error that crosses a function, a wire or the REST API
// carries one of these codes, what happened to which object, and what to do next.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace farside {

enum class ErrorCode : std::uint16_t {
  kInternal = 1,     // A bug of ours that was caught in time.
  kInvalidArgument,  // The request can never succeed as it stands.
  kNotFound,
  kAlreadyExists,
  kConflict,      // Not in this state; the text names the state.
  kUnauthorized,  // Who are you?
  kForbidden,     // I know you, and you may not.
  kStaleEpoch,    // The sender was deposed: somebody with a newer epoch is active.
  kCorrupt,       // Bytes that fail their checksum or do not decode.
  kTooLarge,
  kUnavailable,  // A peer, a host or a file is not reachable now; try again.
  kTimeout,
  kNoSpace,
  kTrackingLost,  // Changed blocks are unknown: compare hashes with the replica.
  kExpired,
  kRevoked,
  kCancelled,
  kUnsupported,
  kIo,
  kPlatform,  // The hypervisor refused; the text carries its own words.
  kBusy,      // Somebody else is at work on it, and goes first: polled until they are done.
};

std::string_view to_text(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string what;    // What failed, on which object, and why.
  std::string advice;  // What the operator does next; empty: what advice.h says for the code.

  // Prepends what the caller was doing: "start test VM of 'web': no such network".
  Error in(std::string_view doing) const&;

  // Worth repeating without any change by an operator.
  bool is_retryable() const;

  bool operator==(const Error&) const = default;
};

std::string to_text(const Error& error);

}  // namespace farside
