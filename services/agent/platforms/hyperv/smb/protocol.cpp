#include "services/agent/platforms/hyperv/smb/protocol.h"

#include <concepts>
#include <cstring>
#include <type_traits>
#include <utility>

namespace farside::agent::smb {
namespace {

// What a message consists of, told once for writing and for reading.
void fields(auto& io, auto& m)
  requires requires { m.password; }
{
  io(m.server);
  io(m.port);
  io(m.share);
  io(m.domain);
  io(m.user);
  io(m.password);
  io(m.encrypt);
  io(m.sign);
  io(m.timeout_ms);
}
void fields(auto& io, auto& m)
  requires requires { m.access; }
{
  io(m.path);
  io(m.access);
}
template <class M>
  requires(std::same_as<std::remove_const_t<M>, GetAttributes> ||
           std::same_as<std::remove_const_t<M>, ListFolder> ||
           std::same_as<std::remove_const_t<M>, MakeFolders> ||
           std::same_as<std::remove_const_t<M>, Remove> ||
           std::same_as<std::remove_const_t<M>, GetSpace>)
void fields(auto& io, M& m) {
  io(m.path);
}
template <class M>
  requires(std::same_as<std::remove_const_t<M>, Close> ||
           std::same_as<std::remove_const_t<M>, GetSize> ||
           std::same_as<std::remove_const_t<M>, Flush> ||
           std::same_as<std::remove_const_t<M>, Opened>)
void fields(auto& io, M& m) {
  io(m.handle);
}
template <class M, class As>
concept Is = std::same_as<std::remove_const_t<M>, As>;

void fields(auto& io, Is<Rename> auto& m) {
  io(m.from);
  io(m.to);
}
void fields(auto& io, Is<Read> auto& m) {
  io(m.handle);
  io(m.offset);
  io(m.length);
}
void fields(auto& io, Is<Write> auto& m) {
  io(m.handle);
  io(m.offset);
  io(m.bytes);
}
void fields(auto& io, Is<Truncate> auto& m) {
  io(m.handle);
  io(m.bytes);
}
void fields(auto& io, Is<Refused> auto& m) {
  io(m.code);
  io(m.what);
  io(m.advice);
}
void fields(auto&, Is<Done> auto&) {}
void fields(auto& io, Is<Attributes> auto& m) {
  io(m.bytes);
  io(m.is_folder);
  io(m.modified_s);
}
void fields(auto& io, Is<Entry> auto& m) {
  io(m.name);
  fields(io, m.attributes);
}
void fields(auto& io, Is<Listed> auto& m) {
  io(m.entries);
}
void fields(auto& io, Is<Space> auto& m) {
  io(m.total_bytes);
  io(m.free_bytes);
}
void fields(auto& io, Is<SizeTold> auto& m) {
  io(m.bytes);
}
void fields(auto& io, Is<BytesRead> auto& m) {
  io(m.bytes);
}

template <class Number>
void store(char* to, Number value) {
  for (std::size_t i = 0; i < sizeof value; ++i) {
    to[i] = static_cast<char>((static_cast<std::uint64_t>(value) >> (8 * i)) & 0xffU);
  }
}

struct Out {
  std::string bytes;

  template <std::integral Number>
  void operator()(Number value) {
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof value);
    store(bytes.data() + at, value);
  }
  void operator()(bool value) { (*this)(static_cast<std::uint8_t>(value ? 1 : 0)); }
  void operator()(Access value) { (*this)(static_cast<std::uint8_t>(value)); }
  void operator()(std::string_view text) {
    (*this)(static_cast<std::uint32_t>(text.size()));
    bytes += text;
  }
  void operator()(const std::string& text) { (*this)(std::string_view(text)); }
  void operator()(const std::vector<Entry>& entries) {
    (*this)(static_cast<std::uint32_t>(entries.size()));
    for (const Entry& entry : entries) fields(*this, entry);
  }
};

struct In {
  std::string_view bytes;
  bool good = true;

  std::string_view take(std::size_t count) {
    if (count > bytes.size()) good = false;
    if (!good) return {};
    const std::string_view part = bytes.substr(0, count);
    bytes.remove_prefix(count);
    return part;
  }
  template <std::integral Number>
  void operator()(Number& value) {
    std::uint64_t sum = 0;
    const std::string_view part = take(sizeof value);
    for (std::size_t i = 0; i < part.size(); ++i) {
      sum |= std::uint64_t{static_cast<unsigned char>(part[i])} << (8 * i);
    }
    value = static_cast<Number>(sum);
  }
  void operator()(bool& value) {
    std::uint8_t byte = 0;
    (*this)(byte);
    if (byte > 1) good = false;
    value = byte == 1;
  }
  void operator()(Access& value) {
    std::uint8_t byte = 0;
    (*this)(byte);
    if (byte > static_cast<std::uint8_t>(Access::kCreateNew))
      good = false;
    else
      value = static_cast<Access>(byte);
  }
  void operator()(std::string& text) {
    std::uint32_t length = 0;
    (*this)(length);
    if (length > kTextBytesMax) good = false;
    text = take(length);
  }
  void operator()(std::string_view& payload) {
    std::uint32_t length = 0;
    (*this)(length);
    if (length > kTransferBytesMax) good = false;
    payload = take(length);
  }
  void operator()(std::vector<Entry>& entries) {
    std::uint32_t count = 0;
    (*this)(count);
    if (count > kEntriesMax) good = false;
    // What is there bounds the memory, not what is claimed.
    for (std::uint32_t i = 0; good && i < count; ++i) fields(*this, entries.emplace_back());
  }
};

// The alternative of `Message` with the number `kind`, at its default.
template <class Message, std::size_t kAt = 0>
std::optional<Message> alternative(std::size_t kind) {
  if constexpr (kAt == std::variant_size_v<Message>) {
    return std::nullopt;
  } else {
    if (kind == kAt) return Message(std::in_place_index<kAt>);
    return alternative<Message, kAt + 1>(kind);
  }
}

template <class Message>
Result<Numbered<Message>> decode(std::string_view frame, const char* noun) {
  In in{.bytes = frame};
  std::uint32_t id = 0;
  std::uint8_t kind = 0;
  in(id);
  in(kind);
  auto message = alternative<Message>(kind);
  if (!in.good || !message) {
    return fail(ErrorCode::kCorrupt,
                std::string("an SMB ") + noun + " of unknown kind " + std::to_string(kind));
  }
  std::visit([&](auto& m) { fields(in, m); }, *message);
  if (!in.good || !in.bytes.empty()) {
    return fail(ErrorCode::kCorrupt, std::string("an SMB ") + noun + " of kind " +
                                         std::to_string(kind) + " is malformed");
  }
  return Numbered<Message>{.id = id, .message = std::move(*message)};
}

template <class Message>
std::string encode_any(std::uint32_t id, const Message& message) {
  Out out;
  out(std::uint32_t{0});
  out(id);
  out(static_cast<std::uint8_t>(message.index()));
  std::visit([&](const auto& m) { fields(out, m); }, message);
  store(out.bytes.data(), static_cast<std::uint32_t>(out.bytes.size() - kLengthBytes));
  return std::move(out.bytes);
}

constexpr std::uint8_t kBytesReadKind = 7;
static_assert(std::is_same_v<std::variant_alternative_t<kBytesReadKind, Reply>, BytesRead>);

}  // namespace

Result<std::optional<std::string_view>> first_frame(std::string_view bytes) {
  if (bytes.size() < kLengthBytes) return std::nullopt;
  std::uint32_t length = 0;
  In{.bytes = bytes}(length);
  if (length > kFrameBytesMax) {
    return fail(ErrorCode::kCorrupt, "an SMB frame of " + std::to_string(length) +
                                         " bytes; at most " + std::to_string(kFrameBytesMax) +
                                         " are allowed");
  }
  if (bytes.size() < kLengthBytes + length) return std::nullopt;
  return bytes.substr(kLengthBytes, length);
}

Result<Numbered<Request>> decode_request(std::string_view frame) {
  FARSIDE_ASSIGN(auto request, decode<Request>(frame, "request"));
  if (const auto* read = std::get_if<Read>(&request.message);
      read != nullptr && read->length > kTransferBytesMax) {
    return fail(ErrorCode::kCorrupt, "an SMB request to read " + std::to_string(read->length) +
                                         " bytes; at most " + std::to_string(kTransferBytesMax) +
                                         " are allowed");
  }
  return request;
}

Result<Numbered<Reply>> decode_reply(std::string_view frame) {
  return decode<Reply>(frame, "reply");
}

std::string encode(std::uint32_t id, const Request& request) {
  return encode_any(id, request);
}

std::string encode(std::uint32_t id, const Reply& reply) {
  return encode_any(id, reply);
}

void seal_bytes_read(std::uint32_t id, std::uint32_t count, std::string& frame) {
  frame.resize(kReadPrefixBytes + count);
  store(frame.data(), static_cast<std::uint32_t>(frame.size() - kLengthBytes));
  store(frame.data() + 4, id);
  store(frame.data() + 8, kBytesReadKind);
  store(frame.data() + 9, count);
}

}  // namespace farside::agent::smb
