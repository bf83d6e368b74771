#include "common/wsman/sealed_body.h"

#include <algorithm>

#include "common/wsman/value.h"

namespace farside::wsman {
namespace {

constexpr std::string_view kBoundary = "--Encrypted Boundary";
constexpr std::string_view kLengthBytes = "Length=";
constexpr std::size_t kHeaderBytesMax = 4096;
constexpr std::size_t kLengthFieldBytes = 4;

std::unexpected<Error> corrupt(const char* why) {
  return fail(ErrorCode::kCorrupt, std::string("a sealed message: ") + why);
}

// Takes the line that `rest` begins with, without its end and without the tab before it.
std::string_view take_line(std::string_view& rest) {
  const std::size_t end = rest.find("\r\n");
  if (end == std::string_view::npos) {
    rest = {};
    return {};
  }
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end + 2);
  while (line.starts_with('\t') || line.starts_with(' ')) line.remove_prefix(1);
  return line;
}

char byte_of(std::size_t number, unsigned shift) {
  return static_cast<char>((number >> shift) & 0xFFU);
}

}  // namespace

bool is_sealed_content_type(std::string_view content_type) {
  return content_type.starts_with("multipart/encrypted");
}

std::string write_sealed_body(const Sealed& sealed, std::size_t plain_bytes) {
  const std::size_t bytes = sealed.header.size();
  std::string body(kBoundary);
  body += "\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n";
  body += "\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=" +
          std::to_string(plain_bytes) + "\r\n";
  body += kBoundary;
  body += "\r\n\tContent-Type: application/octet-stream\r\n";
  for (const unsigned shift : {0U, 8U, 16U, 24U}) body += byte_of(bytes, shift);
  body += sealed.header + sealed.text;
  body += kBoundary;
  body += "--\r\n";
  return body;
}

Result<SealedView> read_sealed_body(std::string_view body) {
  std::string_view rest = body;
  if (take_line(rest) != kBoundary) return corrupt("no first boundary");
  SealedView view;
  bool has_length = false;
  while (true) {
    if (rest.empty()) return corrupt("no second boundary");
    const std::string_view line = take_line(rest);
    if (line == kBoundary) break;
    const std::size_t at = line.rfind(kLengthBytes);
    if (!line.starts_with("OriginalContent:") || at == std::string_view::npos) continue;
    const auto bytes = parse_number(line.substr(at + kLengthBytes.size()));
    if (!bytes) return corrupt("no length");
    view.plain_bytes = *bytes;
    has_length = true;
  }
  if (!has_length) return corrupt("no length");
  if (!take_line(rest).starts_with("Content-Type: application/octet-stream")) {
    return corrupt("no second part");
  }
  // Only the end is searched for: sealed bytes may look like anything.
  if (rest.ends_with("\r\n")) rest.remove_suffix(2);
  const std::string end = std::string(kBoundary) + "--";
  if (!rest.ends_with(end)) return corrupt("no last boundary");
  rest.remove_suffix(end.size());
  if (rest.size() < kLengthFieldBytes) return corrupt("no header");
  std::size_t header_bytes = 0;
  for (std::size_t i = kLengthFieldBytes; i-- > 0;) {
    header_bytes = (header_bytes << 8U) | static_cast<unsigned char>(rest[i]);
  }
  rest.remove_prefix(kLengthFieldBytes);
  if (header_bytes > std::min(rest.size(), kHeaderBytesMax)) return corrupt("its header's length");
  view.header = rest.substr(0, header_bytes);
  view.text = rest.substr(header_bytes);
  return view;
}

}  // namespace farside::wsman
