// The requests that we write: SOAP envelopes of Identify, Enumerate, Pull, Release, Get and Invoke.
// Pure text out.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "common/base/clock.h"
#include "common/wsman/value.h"

namespace farside::wsman {

// What the headers of all requests but Identify have in common.
struct EnvelopeFrame {
  std::string to;          // The URL of the host's endpoint.
  std::string message_id;  // A UUID.
  std::uint32_t envelope_bytes_max = 512'000;
  Micros operation_within{60'000'000};  // The host gives up after this.
};

// What a request is about.
struct Target {
  std::string resource_uri;
  std::map<std::string, std::string> selectors = {};
  std::map<std::string, std::string> options = {};
};

// `body` is XML; it may use the prefixes s, a, w, n and xsi.
std::string write_envelope(const EnvelopeFrame& frame, const Target& target,
                           std::string_view action, std::string_view body);

std::string write_identify();

// `wql` is a query over all classes of `name_space`: hosts refuse a query of one class's URI.
std::string write_enumerate(const EnvelopeFrame& frame, std::string_view name_space,
                            std::string_view wql, std::uint32_t elements_max);
std::string write_pull(const EnvelopeFrame& frame, std::string_view name_space,
                       std::string_view context, std::uint32_t elements_max);
std::string write_release(const EnvelopeFrame& frame, std::string_view name_space,
                          std::string_view context);
std::string write_get(const EnvelopeFrame& frame, const Reference& object);
std::string write_invoke(const EnvelopeFrame& frame, const Reference& object,
                         std::string_view method, const Parameters& parameters);

// The inside of an element of type "reference to an object".
std::string write_reference(const Reference& reference);

}  // namespace farside::wsman
