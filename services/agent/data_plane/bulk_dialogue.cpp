#include "services/agent/data_plane/bulk_dialogue.h"

#include <cstring>

#include "services/agent/replica_store/layout.h"

namespace farside::data {

std::string bulk_hello(std::uint64_t session) {
  std::string out(kBulkMagic);
  replica::put_number(out, session, 8);
  return out;
}

std::string bulk_lengths(std::size_t head, std::size_t payload) {
  std::string out;
  replica::put_number(out, head, 4);
  replica::put_number(out, payload, 4);
  return out;
}

Result<bus::Dialogue::Taken> BulkDialogue::take(bus::Bytes bytes) {
  switch (reads_) {
    case Reads::kHello:
      return on_hello(bytes.view());
    case Reads::kLengths:
      return on_lengths(bytes.view());
    case Reads::kHead:
      if (payload_bytes_ == 0) return whole(std::move(bytes), bus::Bytes());
      head_ = std::move(bytes);
      reads_ = Reads::kPayload;
      needs_ = payload_bytes_;
      return Taken{};
    case Reads::kPayload:
      return whole(std::move(head_), std::move(bytes));
  }
  return fail(ErrorCode::kInternal, "out of step");
}

Result<bus::Dialogue::Taken> BulkDialogue::on_hello(std::string_view bytes) {
  if (!bytes.starts_with(kBulkMagic)) {
    return fail(ErrorCode::kCorrupt, "what came in is not bulk of Farside",
                "only agents of Farside talk to this port");
  }
  session_ = bytes.substr(kBulkMagic.size());
  const auto key = claim_(replica::number_at(session_, 0, 8));
  if (!key) return fail(ErrorCode::kUnauthorized, "bulk of no session that is open here");
  key_ = *key;
  reads_ = Reads::kLengths;
  needs_ = 8;
  return Taken{};
}

Result<bus::Dialogue::Taken> BulkDialogue::on_lengths(std::string_view bytes) {
  const std::uint64_t head = replica::number_at(bytes, 0, 4);
  payload_bytes_ = replica::number_at(bytes, 4, 4);
  if (head == 0 || head > kBulkHeadBytesMax || payload_bytes_ > kBulkPayloadBytesMax) {
    return fail(ErrorCode::kTooLarge, "a frame of bulk has " + std::to_string(head) + " and " +
                                          std::to_string(payload_bytes_) + " bytes");
  }
  reads_ = Reads::kHead;
  needs_ = head;
  return Taken{};
}

bus::Dialogue::Taken BulkDialogue::whole(bus::Bytes head, bus::Bytes payload) {
  reads_ = Reads::kLengths;
  needs_ = 8;
  bus::Bytes session(session_.size());
  std::memcpy(session.span().data(), session_.data(), session_.size());
  std::vector<bus::Part> parts;
  parts.push_back({.bytes = std::move(session)});
  parts.push_back({.bytes = std::move(head)});
  parts.push_back({.bytes = std::move(payload)});
  return {.answer = {}, .message = std::move(parts)};
}

}  // namespace farside::data
