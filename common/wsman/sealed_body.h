// The body of an HTTP message whose SOAP envelope is sealed:
//
//   --Encrypted Boundary CRLF
//   TAB Content-Type: application/HTTP-SPNEGO-session-encrypted CRLF
//   TAB OriginalContent: type=application/soap+xml;charset=UTF-8;Length=<of the plain text> CRLF
//   --Encrypted Boundary CRLF
//   TAB Content-Type: application/octet-stream CRLF
//   u32le length of header | header | sealed text --Encrypted Boundary-- CRLF
//
// Source: Microsoft [MS-WSMV] 2.2.9.1, and what public clients send; they insist on the tabs.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::wsman {

inline constexpr const char* kSealedContentType =
    "multipart/encrypted;protocol=\"application/HTTP-SPNEGO-session-encrypted\";"
    "boundary=\"Encrypted Boundary\"";

// What a security context makes of a text.
struct Sealed {
  std::string header;  // The signature or token that comes first.
  std::string text;
};

// The same within a body; lives as long as that.
struct SealedView {
  std::size_t plain_bytes = 0;
  std::string_view header;
  std::string_view text;
};

bool is_sealed_content_type(std::string_view content_type);

std::string write_sealed_body(const Sealed& sealed, std::size_t plain_bytes);

// Errors: kCorrupt.
Result<SealedView> read_sealed_body(std::string_view body);

}  // namespace farside::wsman
