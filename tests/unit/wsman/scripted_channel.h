// A host that says what a test wants it to say.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/wsman/client.h"
#include "common/wsman/job.h"

namespace farside::wsman::test {

class ScriptedChannel final : public Channel {
 public:
  using Answer = std::function<Result<SoapReply>(const std::string& envelope)>;
  explicit ScriptedChannel(Answer answer) : answer_(std::move(answer)) {}
  Result<SoapReply> ask(const std::string& envelope, Micros) override { return answer_(envelope); }

 private:
  Answer answer_;
};

inline std::string in_envelope(const std::string& body) {
  return R"(<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" )"
         R"(xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><s:Header/><s:Body>)" +
         body + "</s:Body></s:Envelope>";
}

inline std::string fault(const std::string& subcode, const std::string& code,
                         const std::string& text) {
  return in_envelope("<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>" +
                     subcode + "</s:Value></s:Subcode></s:Code><s:Reason><s:Text>" + text +
                     "</s:Text></s:Reason><s:Detail><f:WSManFault Code=\"" + code +
                     "\"><f:Message>" + text + " </f:Message></f:WSManFault></s:Detail></s:Fault>");
}

inline Client client_of(ScriptedChannel::Answer answer, Random& random) {
  return Client(ClientOptions{.url = "https://host:5986/wsman"},
                std::make_unique<ScriptedChannel>(std::move(answer)), random);
}

// Time passes only while somebody waits.
struct StillClock final : Clock {
  Micros at{0};
  Time now() const override { return Time{at.count()}; }
  Micros monotonic() const override { return at; }
};

inline JobWait waiting(StillClock& clock, Micros within = Micros{10'000'000}) {
  return JobWait{
      .clock = clock, .pause = [&clock](Micros pause) { clock.at += pause; }, .within = within};
}

}  // namespace farside::wsman::test
