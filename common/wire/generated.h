// What the code that plainc generates leans on.  Nobody else includes this.
#pragma once

#include <capnp/message.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "common/wire/frame.h"

namespace farside::wire {

// What a message may become: items of its lists as plain structs, texts and data together.
// Structs of the schemas take less, each beside what it has in a list.
inline constexpr std::size_t kDecodedPerByte = 8;
inline constexpr std::size_t kDecodedBytesFree = std::size_t{1} << 20U;

// How much one message may still become.  A list of empty structs, or one that points at the same
// words as another, takes next to nothing of a message, and much as plain structs.
class Room final {
 public:
  explicit Room(std::size_t message_bytes)
      : left_(kDecodedPerByte * message_bytes + kDecodedBytesFree) {}

  // Whether there are that many bytes; without them there is no room for anything any more.
  bool take(std::size_t bytes) {
    is_exceeded_ = is_exceeded_ || bytes > left_;
    if (is_exceeded_) return false;
    left_ -= bytes;
    return true;
  }
  bool is_exceeded() const { return is_exceeded_; }
  static Status refused() {
    return fail(ErrorCode::kTooLarge, "the message becomes too large once it is decoded");
  }

 private:
  std::size_t left_;
  bool is_exceeded_ = false;
};

// Empty if there is no room; decode_with() tells.
template <class Blob>  // capnp::Text::Reader or capnp::Data::Reader.
std::string blob_of(Blob blob, Room& room) {
  if (!room.take(blob.size())) return {};
  return {reinterpret_cast<const char*>(blob.begin()), blob.size()};
}
inline capnp::Text::Reader as_text(const std::string& text) {
  return {text.c_str(), text.size()};
}
inline capnp::Data::Reader as_data(const std::string& bytes) {
  return {reinterpret_cast<const capnp::byte*>(bytes.data()), bytes.size()};
}

// Enumerants are numbered without gaps, so that every value below `count` is known.
template <class Wire, class Plain>
Status read_enum(Wire value, unsigned count, const char* name, Plain& out) {
  const auto number = static_cast<unsigned>(value);
  if (number >= count) {
    return fail(ErrorCode::kCorrupt, "unknown value " + std::to_string(number) + " of " + name);
  }
  out = static_cast<Plain>(number);
  return {};
}

// Before any of them is allocated.
template <class Plain, class List>
Status check_items(const List& list, Room& room) {
  if (list.size() > kListItemsMax) {
    return fail(ErrorCode::kTooLarge, "list of " + std::to_string(list.size()) + " items");
  }
  return room.take(list.size() * sizeof(Plain)) ? Status() : Room::refused();
}

template <class WireStruct, class T, class Read>
Result<T> decode_with(std::string_view bytes, const char* name, Read read) {
  auto frame = Frame::open(bytes);
  if (!frame) return fail(frame.error().in(name));
  T out;
  Room room(bytes.size());
  const Status status = frame->read<WireStruct>([&](typename WireStruct::Reader in) -> Status {
    FARSIDE_TRY(read(in, out, room));
    return room.is_exceeded() ? Room::refused() : Status();
  });
  if (!status) return fail(status.error().in(name));
  return out;
}

inline std::string number_text(bool value) {
  return value ? "true" : "false";
}
std::string number_text(double value);
template <class T>
  requires std::is_integral_v<T>
std::string number_text(T value) {
  return std::to_string(value);
}

// "Name{a=1, b=2}".
class Printer final {
 public:
  explicit Printer(std::string_view name) : out_(name) { out_ += '{'; }
  void field(std::string_view name, std::string_view value) {
    if (!first_) out_ += ", ";
    first_ = false;
    out_ += name;
    out_ += '=';
    out_ += value;
  }
  std::string finish() { return std::move(out_) + '}'; }

 private:
  std::string out_;
  bool first_ = true;
};

template <class List, class Print>
std::string list_text(const List& list, Print print) {
  std::string out = "[";
  for (const auto& item : list) {
    if (out.size() > 1) out += ", ";
    out += print(item);
  }
  return out + ']';
}

}  // namespace farside::wire
