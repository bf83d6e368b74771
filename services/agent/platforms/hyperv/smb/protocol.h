// What the agent and one farside-smb process say to each other over a socket pair.
//
//   frame   = u32 bytes that follow | u32 id | u8 kind | fields       (little-endian)
//   text    = u32 length | bytes            flag = u8, 0 or 1
//
// Replies come in the order of the requests and carry their ids.  The first request is Connect.
// Both sides refuse frames beyond kFrameBytesMax and fields beyond the bounds below.
//
// Owns: nothing.  Thread: any.  Views in a decoded message point into the frame.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/result.h"

namespace farside::agent::smb {

inline constexpr std::uint32_t kTransferBytesMax = 4U << 20U;  // Of one read or write.
inline constexpr std::uint32_t kFrameBytesMax = kTransferBytesMax + 4096;
inline constexpr std::uint32_t kTextBytesMax = 32'768;  // A path; Windows allows 32,767 characters.
inline constexpr std::uint32_t kEntriesMax = 65'536;    // Of one folder; more is refused.
inline constexpr std::uint32_t kOpenFilesMax = 256;     // Of one process.

enum class Access : std::uint8_t {
  kRead,
  kReadWrite,  // The file exists.
  kCreateNew,  // It must not exist; read and write.
};

// Requests.

struct Connect {
  std::string server;
  std::uint16_t port = 445;
  std::string share;
  std::string domain;
  std::string user;
  std::string password;
  bool encrypt = false;  // Refuse to speak in clear.
  bool sign = true;      // Refuse to speak unsigned.
  std::uint32_t timeout_ms = 20'000;
};
struct GetAttributes {
  std::string path;
};
struct ListFolder {
  std::string path;
};
struct MakeFolders {
  std::string path;
};
struct Rename {
  std::string from;
  std::string to;
};
struct Remove {
  std::string path;
};
struct GetSpace {
  std::string path;
};
struct Open {
  std::string path;
  Access access = Access::kRead;
};
struct Close {
  std::uint32_t handle = 0;
};
struct GetSize {
  std::uint32_t handle = 0;
};
struct Read {
  std::uint32_t handle = 0;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
};
struct Write {
  std::uint32_t handle = 0;
  std::uint64_t offset = 0;
  std::string_view bytes;
};
struct Truncate {
  std::uint32_t handle = 0;
  std::uint64_t bytes = 0;
};
struct Flush {
  std::uint32_t handle = 0;
};

// Append only: the position in the list is the kind in the frame.
using Request = std::variant<Connect, GetAttributes, ListFolder, MakeFolders, Rename, Remove,
                             GetSpace, Open, Close, GetSize, Read, Write, Truncate, Flush>;

// Replies.

struct Refused {
  std::uint16_t code = 0;  // An ErrorCode.
  std::string what;
  std::string advice;
};
struct Done {};
struct Attributes {
  std::uint64_t bytes = 0;
  bool is_folder = false;
  std::int64_t modified_s = 0;  // Since 1970, UTC.
};
struct Entry {
  std::string name;
  Attributes attributes;
};
struct Listed {
  std::vector<Entry> entries;
};
struct Space {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  // For this user, where the server has quotas.
};
struct Opened {
  std::uint32_t handle = 0;
};
struct SizeTold {
  std::uint64_t bytes = 0;
};
struct BytesRead {
  std::string_view bytes;  // Fewer than asked only at the end of the file.
};

using Reply = std::variant<Refused, Done, Attributes, Listed, Space, Opened, SizeTold, BytesRead>;

// The first frame of `bytes`, without its length; nothing while it is not complete.
// Errors: kCorrupt (the length is out of bounds).
Result<std::optional<std::string_view>> first_frame(std::string_view bytes);
inline constexpr std::size_t kLengthBytes = 4;

template <class Message>
struct Numbered {
  std::uint32_t id = 0;
  Message message;
};

// `frame` is what first_frame() gave.  Errors: kCorrupt.
Result<Numbered<Request>> decode_request(std::string_view frame);
Result<Numbered<Reply>> decode_reply(std::string_view frame);

// With the length in front.
std::string encode(std::uint32_t id, const Request& request);
std::string encode(std::uint32_t id, const Reply& reply);

// A BytesRead whose bytes are filled in afterwards, so that they are not copied once more: make
// room, read into frame.data() + kReadPrefixBytes, then seal with the count that was read.
inline constexpr std::size_t kReadPrefixBytes = kLengthBytes + 4 + 1 + 4;
void seal_bytes_read(std::uint32_t id, std::uint32_t count, std::string& frame);

}  // namespace farside::agent::smb
