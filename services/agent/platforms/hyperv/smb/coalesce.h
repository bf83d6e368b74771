// Merges pieces of a file that are to be read into fewer, larger requests: over SMB a request costs
// more than the bytes of a small gap.
//
// Owns: nothing.  Thread: any; pure.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace farside::agent::smb {

struct Extent {
  std::uint64_t offset = 0;  // In the file.
  std::uint64_t length = 0;

  bool operator==(const Extent&) const = default;
};

// A part of a request that belongs to a piece that was asked for.
struct Part {
  std::size_t piece = 0;         // Its number in what was asked for.
  std::uint64_t in_piece = 0;    // Where in the piece it begins,
  std::uint64_t in_request = 0;  // and where in the bytes of the request.
  std::uint64_t length = 0;

  bool operator==(const Part&) const = default;
};

struct ReadRequest {
  Extent extent;
  std::vector<Part> parts;
};

// Pieces in any order, also overlapping ones.  Two pieces share a request where at most `gap` bytes
// lie between them; no request is longer than `max` (> 0), and longer pieces are split.
// Every byte of every piece is in exactly one part; requests come in the order of the file, but for
// those of pieces that overlap.
std::vector<ReadRequest> coalesce(std::span<const Extent> pieces, std::uint64_t gap,
                                  std::uint64_t max);

// Copies what a request read to where its pieces go: to[i] is where piece i begins.
void scatter(const ReadRequest& request, std::string_view bytes, std::span<char* const> to);

}  // namespace farside::agent::smb
