#include "services/agent/platforms/hyperv/smb/coalesce.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "common/base/assert.h"

namespace farside::agent::smb {

std::vector<ReadRequest> coalesce(std::span<const Extent> pieces, std::uint64_t gap,
                                  std::uint64_t max) {
  FARSIDE_ASSERT(max > 0);
  std::vector<std::size_t> order(pieces.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return pieces[i].offset; });

  std::vector<ReadRequest> requests;
  for (const std::size_t i : order) {
    std::uint64_t done = 0;
    while (done < pieces[i].length) {
      const std::uint64_t at = pieces[i].offset + done;
      ReadRequest* last = requests.empty() ? nullptr : &requests.back();
      // Pieces come by their offsets, but one that overlaps an earlier, split one may begin before
      // the last request does: it gets a request of its own.
      const bool joins = last != nullptr && at >= last->extent.offset &&
                         at - last->extent.offset < max &&
                         at <= last->extent.offset + last->extent.length + gap;
      if (!joins) last = &requests.emplace_back(ReadRequest{.extent = {.offset = at}, .parts = {}});
      const std::uint64_t in_request = at - last->extent.offset;
      const std::uint64_t length = std::min(pieces[i].length - done, max - in_request);
      last->extent.length = std::max(last->extent.length, in_request + length);
      last->parts.push_back(
          {.piece = i, .in_piece = done, .in_request = in_request, .length = length});
      done += length;
    }
  }
  return requests;
}

void scatter(const ReadRequest& request, std::string_view bytes, std::span<char* const> to) {
  for (const Part& part : request.parts) {
    FARSIDE_ASSERT(part.in_request + part.length <= bytes.size());
    std::memcpy(to[part.piece] + part.in_piece, bytes.data() + part.in_request, part.length);
  }
}

}  // namespace farside::agent::smb
