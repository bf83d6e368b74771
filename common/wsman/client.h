// WMI of one host through WS-Management: queries, objects and methods.
//
// Owns: its channel.  Thread: one at a time; give each thread its own client.
// Errors of all calls: those of Channel::ask and of the faults in reply.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/wsman/channel.h"
#include "common/wsman/envelope.h"
#include "common/wsman/reply.h"
#include "common/wsman/uris.h"
#include "common/wsman/value.h"

namespace farside::wsman {

struct ClientOptions {
  std::string url;                             // "https://host:5986/wsman"
  std::uint32_t envelope_bytes_max = 512'000;  // Windows' own limit; see MaxEnvelopeSizekb.
  std::uint32_t elements_max = 100;            // Asked for in one page.
  std::uint32_t objects_max = 100'000;         // More in one answer to a query are kTooLarge.
  Micros answer_within{60'000'000};            // WinRM's MaxTimeoutms.
};

class Client final {
 public:
  // `random` outlives the client.
  Client(ClientOptions options, std::unique_ptr<Channel> channel, Random& random);

  Result<Identity> identify();

  // All objects that a WQL query finds, over as many pages as that takes.
  Result<std::vector<Instance>> query(const std::string& wql,
                                      const std::string& name_space = kVirtualization);
  Result<std::vector<Instance>> associators(const Reference& of, std::string_view association,
                                            std::string_view result);
  Result<Instance> get(const Reference& object);

  // The out parameters.  A method that reports its failure in ReturnValue is a success here.
  Result<Instance> invoke(const Reference& object, const std::string& method,
                          const Parameters& parameters);

 private:
  EnvelopeFrame frame();
  Result<std::string> ask(const std::string& envelope);

  ClientOptions options_;
  std::unique_ptr<Channel> channel_;
  Random& random_;
};

// A service of the host that exists once, like Msvm_VirtualSystemManagementService.
Reference service(const std::string& class_name);

}  // namespace farside::wsman
