// What the agent and farside-smb say to each other, in both directions, decodes to what encodes to
// the same frame again, or is refused with a reason.
#include "services/agent/platforms/hyperv/smb/protocol.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace farside::agent::smb;  // The names of the target.

void look_at(std::string_view frame, auto decode) {
  const auto message = decode(frame);
  if (!message) {
    FARSIDE_ASSERT(!message.error().what.empty());
    return;
  }
  FARSIDE_ASSERT(encode(message->id, message->message).substr(kLengthBytes) == frame);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes = farside::fuzz::bytes(data, size);
  // A stream of frames, as either side gets it.
  while (true) {
    const auto frame = first_frame(bytes);
    if (!frame || !*frame) break;
    look_at(**frame, decode_request);
    look_at(**frame, decode_reply);
    bytes.remove_prefix(kLengthBytes + (*frame)->size());
  }
  return 0;
}
