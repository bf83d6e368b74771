// The two headers of a VHDX file: which writes it has seen, and where its log is.  The valid one of
// the higher sequence number counts; an update overwrites the other one, so that a crash leaves
// the old or the new state.
//
// Source: [MS-VHDX] 2.2.2.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "services/agent/platforms/hyperv/vhdx/guid.h"

namespace farside::agent::vhdx {

struct Header {
  std::uint64_t sequence = 0;
  Guid file_write;  // New with the first change of the file after each open.
  Guid data_write;  // New with the first change of the disk's contents after each open.
  Guid log;         // Zero: there is nothing to replay.
  std::uint16_t log_version = 0;
  std::uint16_t version = 1;
  std::uint32_t log_bytes = 0;
  std::uint64_t log_at = 0;

  bool operator==(const Header&) const = default;
};

// Errors: kCorrupt (mark or checksum).
Result<Header> parse_header(std::string_view bytes);
std::string write_header(const Header& header);  // kHeaderBytes, with its checksum.

struct CurrentHeader {
  Header header;
  int place = 0;  // 0 or 1: which of the two.
};

// Of the bytes of both.  What it holds is checked as well as can be without the rest of the file.
// Errors: kCorrupt (neither is valid, or the fields contradict the format), kUnsupported (version).
Result<CurrentHeader> current_header(std::string_view first, std::string_view second);

}  // namespace farside::agent::vhdx
