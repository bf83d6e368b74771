// A folder of exchanges with a host: written by a recorder in the way, read by a replay in its
// place.  Holds what the host said in clear; no credentials pass here.
//
//   0001-request.xml  0001-response-200.xml  0002-request.xml  …
#pragma once

#include <memory>
#include <string>

#include "common/wsman/channel.h"

namespace farside::wsman {

// Writes every exchange to `folder`, which exists.  What elements whose name contains "Password"
// hold is left out.  Errors: those of the channel, kIo.
class RecordingChannel final : public Channel {
 public:
  RecordingChannel(std::unique_ptr<Channel> inner, std::string folder);

  Result<SoapReply> ask(const std::string& envelope, Micros within) override;

 private:
  std::unique_ptr<Channel> inner_;
  std::string folder_;
  int count_ = 0;
};

// Answers as the recorded host did.  Requests must come in the recorded order and ask for the same;
// message ids do not count.  Errors: kConflict (another request), kNotFound (the recording ends).
class ReplayingChannel final : public Channel {
 public:
  explicit ReplayingChannel(std::string folder) : folder_(std::move(folder)) {}

  Result<SoapReply> ask(const std::string& envelope, Micros within) override;

 private:
  std::string folder_;
  int count_ = 0;
};

// Without the message id and without passwords.
std::string for_recording(const std::string& xml);

}  // namespace farside::wsman
