// What hosts answer: SOAP envelopes read into values, and faults into errors.  Pure text in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/wsman/value.h"

namespace farside::wsman {

struct Identity {
  std::string protocol;  // ".../wsman/1/wsman.xsd"
  std::string vendor;
  std::string version;
};

struct EnumerationPage {
  std::vector<Instance> items;
  std::string context;  // Empty once the last page was read.
};

// All of these.  Errors: kCorrupt (no such reply), and those of a fault:
//   kForbidden     access denied
//   kNotFound      no such object, class or namespace
//   kTimeout       the operation took longer than its limit
//   kTooLarge      the answer does not fit into an envelope: ask for less
//   kUnavailable   a quota of the host is used up: ask later
//   kTrackingLost  the host says that change tracking is missing
//   kPlatform      everything else, with the fault's text, code and subcode.
Result<Identity> read_identity(std::string_view xml);
Result<EnumerationPage> read_page(std::string_view xml);
Result<Instance> read_object(std::string_view xml);
// The out parameters of `method`, "ReturnValue" among them.
Result<Instance> read_output(std::string_view xml, std::string_view method);
Status read_released(std::string_view xml);

}  // namespace farside::wsman
