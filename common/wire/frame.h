// The one place where foreign bytes meet Cap'n Proto.  Frames of ZeroMQ's TCP transport start at
// odd addresses and Cap'n Proto 0.9 throws on those, so bytes are copied to aligned memory unless
// they are aligned already.  Exceptions of the library end here.
//
// Owns: at most one aligned copy.  Thread: any, one at a time.
#pragma once

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/wire/codec.h"

namespace farside::wire {

class Frame final {
 public:
  // `bytes` must outlive the frame.  Errors: kCorrupt, kTooLarge.
  static Result<Frame> open(std::string_view bytes);

  // Runs `use(Reader)`, which returns a Status; what the reader hands out lives as long as the
  // frame.  Touching a malformed field throws inside `use`; that becomes kCorrupt here.
  template <class Root, class Use>
  Status read(Use&& use) const {
    Status status;
    const Status guarded = guard([&] { status = use(reader_->template getRoot<Root>()); });
    return guarded ? status : guarded;
  }

 private:
  Frame() = default;
  template <class Run>
  static Status guard(Run&& run) {
    try {
      run();
      return {};
    } catch (const kj::Exception& broken) {
      return corrupt(broken);
    } catch (const std::exception& broken) {
      return fail(ErrorCode::kCorrupt, std::string("message does not decode: ") + broken.what());
    }
  }
  static Status corrupt(const kj::Exception& broken);

  std::unique_ptr<capnp::word[]> copy_;
  std::unique_ptr<capnp::FlatArrayMessageReader> reader_;
};

// The finished message as bytes.
std::string to_bytes(capnp::MessageBuilder& message);

}  // namespace farside::wire
