// Bytes <-> plain structs.  For every struct T of the schemas, plainc generates
//
//   std::string encode(const T&);                    unpacked Cap'n Proto, a multiple of 8 bytes
//   template <> Result<T> decode<T>(std::string_view);
//   std::string to_text(const T&);                   one line, default values left out
//
// and for every enum `std::string_view to_text(E)` and `enum_from_text<E>`.  Messages between
// processes and records in a store use the same codecs, and so the same rules of evolution: a
// field that the bytes do not have reads as its default, one that we do not know is ignored.
//
// Thread: any.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::msg {

// `bytes` may be unaligned and come from anywhere.  Errors: kCorrupt (does not decode, an enum
// value or union arm this version does not know, bytes left over), kTooLarge (beyond the limits
// below).
template <class T>
Result<T> decode(std::string_view bytes);

// Empty if `text` is not one of the schema's names.
template <class E>
std::optional<E> enum_from_text(std::string_view text);

}  // namespace farside::msg

namespace farside::wire {

inline constexpr std::size_t kMessageBytesMax = std::size_t{64} << 20U;
inline constexpr std::size_t kListItemsMax = std::size_t{1} << 20U;
inline constexpr int kNestingMax = 32;

// For printing: quoted, with control characters, quotes and backslashes escaped.
std::string quoted(std::string_view text);

}  // namespace farside::wire
