// Where SOAP envelopes go and answers come from: a host, or a recording of one.
#pragma once

#include <string>

#include "common/base/clock.h"
#include "common/base/result.h"

namespace farside::wsman {

struct SoapReply {
  long status = 0;  // Of HTTP; faults come with 400 or 500.
  std::string xml;
};

class Channel {
 public:
  virtual ~Channel() = default;

  // Sends `envelope` at most once and waits for its answer.  After kUnavailable and kTimeout the
  // host may have done what was asked.
  // Errors: kUnauthorized, kForbidden, kUnavailable, kTimeout, kTooLarge, kCorrupt.
  virtual Result<SoapReply> ask(const std::string& envelope, Micros within) = 0;
};

}  // namespace farside::wsman
