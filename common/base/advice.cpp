#include "common/base/advice.h"

namespace farside {

std::string_view default_advice(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInternal:
      break;
    case ErrorCode::kInvalidArgument:
      return "correct what is named, then ask again";
    case ErrorCode::kNotFound:
      return "check the name: what it stands for is gone, or was never here";
    case ErrorCode::kAlreadyExists:
      return "choose another name, or use what is there";
    case ErrorCode::kConflict:
      return "wait until its state has changed, or change it: `farside item show` tells what is "
             "allowed now";
    case ErrorCode::kUnauthorized:
      return "check the token or key that was sent";
    case ErrorCode::kForbidden:
      return "ask as somebody who may do this, or have it allowed";
    case ErrorCode::kStaleEpoch:
      return "nothing if the VM was failed over: `farside item show` tells where it is active";
    case ErrorCode::kCorrupt:
      return "check the disk or the link that the bytes came from, and its machine's log";
    case ErrorCode::kTooLarge:
      return "send less at once, or raise the limit that is named";
    case ErrorCode::kUnavailable:
      return "check that it runs and can be reached, then try again";
    case ErrorCode::kTimeout:
      return "see whether it still runs, and how busy it is, then try again";
    case ErrorCode::kNoSpace:
      return "free space on the volume that is named";
    case ErrorCode::kTrackingLost:
      return "nothing: all blocks are compared, and replication goes on by itself";
    case ErrorCode::kExpired:
      return "make a new one, and use it in time";
    case ErrorCode::kRevoked:
      return "let it join again with a new registration key, if it should";
    case ErrorCode::kCancelled:
      return "start it again when you want it";
    case ErrorCode::kUnsupported:
      return "change what is named to something that is supported";
    case ErrorCode::kIo:
      return "look at that volume and at its machine's kernel log";
    case ErrorCode::kPlatform:
      return "look at that host's hypervisor and its own log, then try again";
    case ErrorCode::kBusy:
      return "wait until that has ended";
  }
  return "look at the log of the process that said so, and report it";
}

std::string advice_of(const Error& error) {
  return error.advice.empty() ? std::string(default_advice(error.code)) : error.advice;
}

}  // namespace farside
