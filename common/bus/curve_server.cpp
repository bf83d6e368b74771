#include "common/bus/curve_server.h"

#include <sodium.h>
#include <zmq.h>

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"

namespace farside::bus {
namespace {

constexpr std::size_t kGreetingBytes = 64;
constexpr std::size_t kCommandBytesMax = 1024;  // Of a client that is not known yet.
constexpr std::uint8_t kMore = 1;
constexpr std::uint8_t kLong = 2;
constexpr std::uint8_t kCommand = 4;
constexpr std::size_t kMac = crypto_box_MACBYTES;
constexpr std::size_t kKeyBytes = crypto_box_PUBLICKEYBYTES;
constexpr std::size_t kCookieBytes = 96;
constexpr std::size_t kVouchBytes = 16 + kMac + 2 * kKeyBytes;

constexpr std::string_view kHello("\x05HELLO", 6);
constexpr std::string_view kWelcome("\x07WELCOME", 8);
constexpr std::string_view kInitiate("\x08INITIATE", 9);
constexpr std::string_view kReady("\x05READY", 6);
constexpr std::string_view kMessage("\x07MESSAGE", 8);
// libzmq's client takes three digits for "not again with this key".
constexpr std::string_view kRefused(
    "\x05"
    "ERROR"
    "\x03"
    "400",
    10);

constexpr std::size_t kHelloBytes = 200;
constexpr std::size_t kInitiateBytesMin =
    kInitiate.size() + kCookieBytes + 8 + kMac + kKeyBytes + kVouchBytes;
// Name, short nonce, box with one byte of flags.
constexpr std::size_t kMessageOverhead = kMessage.size() + 8 + kMac + 1;

using Nonce = std::array<unsigned char, crypto_box_NONCEBYTES>;

const unsigned char* raw(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* raw(char* text) {
  return reinterpret_cast<unsigned char*>(text);
}

Nonce nonce_of(std::string_view prefix, std::string_view rest) {
  Nonce nonce{};
  std::memcpy(nonce.data(), prefix.data(), prefix.size());
  std::memcpy(nonce.data() + prefix.size(), rest.data(), rest.size());
  return nonce;
}

std::string short_nonce(std::uint64_t number) {
  std::string out(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) out[7 - i] = static_cast<char>(number >> (8 * i));
  return out;
}

std::uint64_t number_of(std::string_view bytes) {
  std::uint64_t number = 0;
  for (const char byte : bytes) number = number << 8U | static_cast<unsigned char>(byte);
  return number;
}

auto corrupt(const char* what) {
  return fail(ErrorCode::kCorrupt, what, "only agents and services of Farside talk to this port");
}

// name-length, name, 4 bytes of value-length, value; and so on.
bool names_a_dealer(std::string_view metadata) {
  while (!metadata.empty()) {
    const std::size_t name_bytes = static_cast<unsigned char>(metadata[0]);
    if (metadata.size() < 1 + name_bytes + 4) return false;
    const std::string_view name = metadata.substr(1, name_bytes);
    const std::uint64_t value_bytes = number_of(metadata.substr(1 + name_bytes, 4));
    metadata.remove_prefix(1 + name_bytes + 4);
    if (metadata.size() < value_bytes) return false;
    const std::string_view value = metadata.substr(0, value_bytes);
    metadata.remove_prefix(value_bytes);
    if (name == "Socket-Type") return value == "DEALER";
  }
  return false;
}

void put_property(std::string& out, std::string_view name, std::string_view value) {
  out += static_cast<char>(name.size());
  out += name;
  out += short_nonce(value.size()).substr(4);
  out += value;
}

}  // namespace

CurveServer::CurveServer(const CurveServerOptions& options) : options_(options) {
  FARSIDE_ASSERT(sodium_init() >= 0);
}

CurveServer::~CurveServer() {
  for (Key* const secret : {&short_secret_, &shared_}) {
    sodium_memzero(secret->data(), secret->size());
  }
}

std::string CurveServer::greeting() {
  std::string out(kGreetingBytes, '\0');
  out[0] = '\xFF';
  out[9] = '\x7F';
  out[10] = 3;  // ZMTP 3.0: nothing of 3.1 is needed here.
  std::memcpy(out.data() + 12, "CURVE", 5);
  out[32] = 1;  // We are the server.
  return out;
}

std::size_t CurveServer::needs() const {
  switch (reads_) {
    case Reads::kGreeting:
      return kGreetingBytes;
    case Reads::kFrameStart:
      return 2;
    case Reads::kLongSize:
      return 7;
    case Reads::kBody:
      return body_bytes_;
  }
  return 1;
}

Result<Dialogue::Taken> CurveServer::take(Bytes bytes) {
  const std::string_view in = bytes.view();
  switch (reads_) {
    case Reads::kGreeting: {
      std::array<char, 20> mechanism{};
      std::memcpy(mechanism.data(), "CURVE", 5);
      const bool speaks_zmtp = in[0] == '\xFF' && in[9] == '\x7F' && in[10] >= 3;
      if (!speaks_zmtp || in.substr(12, 20) != std::string_view(mechanism.data(), 20)) {
        return corrupt("what came in is no greeting of ZMTP 3 with CURVE");
      }
      reads_ = Reads::kFrameStart;
      return Taken{};
    }
    case Reads::kFrameStart:
      flags_ = static_cast<std::uint8_t>(in[0]);
      if ((flags_ & ~(kMore | kLong | kCommand)) != 0) return corrupt("a frame has unknown flags");
      body_bytes_ = static_cast<unsigned char>(in[1]);
      if ((flags_ & kLong) != 0) {
        // The first of eight bytes: nothing that long is ever taken.
        if (body_bytes_ != 0) return fail(ErrorCode::kTooLarge, "a frame is far too long");
        reads_ = Reads::kLongSize;
        return Taken{};
      }
      FARSIDE_TRY(begin_body(body_bytes_));
      return Taken{};
    case Reads::kLongSize:
      FARSIDE_TRY(begin_body(number_of(in)));
      return Taken{};
    case Reads::kBody:
      reads_ = Reads::kFrameStart;
      return on_body(std::move(bytes));
  }
  return corrupt("out of step");
}

// Judged before a byte of it is held.
Status CurveServer::begin_body(std::uint64_t size) {
  const std::size_t max =
      awaits_ == Awaits::kMessages ? options_.part_bytes_max + kMessageOverhead : kCommandBytesMax;
  if (size > max) {
    return fail(ErrorCode::kTooLarge,
                "a frame has " + std::to_string(size) + " bytes, more than " + std::to_string(max));
  }
  if (size == 0) return corrupt("a frame is empty");
  body_bytes_ = size;
  reads_ = Reads::kBody;
  return {};
}

Result<Dialogue::Taken> CurveServer::on_body(Bytes bytes) {
  if (awaits_ == Awaits::kMessages) return on_message(std::move(bytes));
  if ((flags_ & kCommand) == 0) return corrupt("a message came before the handshake was done");
  Taken taken;
  if (awaits_ == Awaits::kHello) {
    FARSIDE_ASSIGN(taken.answer, on_hello(bytes.view()));
    awaits_ = Awaits::kInitiate;
  } else {
    FARSIDE_ASSIGN(taken.answer, on_initiate(bytes.view()));
    awaits_ = Awaits::kMessages;
  }
  return taken;
}

// | name 6 | version 2 | padding 72 | C' 32 | nonce 8 | box of 64 zeros 80 |
Result<std::string> CurveServer::on_hello(std::string_view body) {
  if (body.size() != kHelloBytes || !body.starts_with(kHello) || body[6] != 1) {
    return corrupt("a handshake does not begin with HELLO");
  }
  std::memcpy(client_short_.data(), body.data() + 80, kKeyBytes);
  heard_ = number_of(body.substr(112, 8));
  std::array<unsigned char, 64> zeros{};
  const Nonce nonce = nonce_of("CurveZMQHELLO---", body.substr(112, 8));
  if (crypto_box_open_easy(zeros.data(), raw(body.substr(120)), 80, nonce.data(),
                           client_short_.data(), options_.secret_key.data()) != 0 ||
      sodium_is_zero(zeros.data(), zeros.size()) != 1) {
    return corrupt("a HELLO is not for this service's key");
  }

  crypto_box_keypair(short_public_.data(), short_secret_.data());
  if (crypto_box_beforenm(shared_.data(), client_short_.data(), short_secret_.data()) != 0) {
    return corrupt("a HELLO has a key that is none");
  }
  // Opaque to the client.  We keep the connection's state, so it only has to come back.
  cookie_.resize(kCookieBytes);
  randombytes_buf(cookie_.data(), cookie_.size());
  std::string plain(reinterpret_cast<const char*>(short_public_.data()), kKeyBytes);
  plain += cookie_;
  std::string random(16, '\0');
  randombytes_buf(random.data(), random.size());
  std::string box(plain.size() + kMac, '\0');
  if (crypto_box_easy(raw(box.data()), raw(plain), plain.size(),
                      nonce_of("WELCOME-", random).data(), client_short_.data(),
                      options_.secret_key.data()) != 0) {
    return corrupt("a HELLO has a key that is none");
  }
  return frame(kCommand, std::string(kWelcome) + random + box);
}

// | name 9 | cookie 96 | nonce 8 | box of | C 32 | vouch nonce 16 | box of C', S 80 | metadata | |
Result<std::string> CurveServer::on_initiate(std::string_view body) {
  if (body.size() < kInitiateBytesMin || !body.starts_with(kInitiate)) {
    return corrupt("a handshake does not go on with INITIATE");
  }
  if (sodium_memcmp(body.data() + kInitiate.size(), cookie_.data(), kCookieBytes) != 0) {
    return corrupt("an INITIATE has another connection's cookie");
  }
  const std::string_view number = body.substr(kInitiate.size() + kCookieBytes, 8);
  if (number_of(number) <= heard_) return corrupt("an INITIATE was repeated");
  heard_ = number_of(number);
  const std::string_view box = body.substr(kInitiate.size() + kCookieBytes + 8);
  std::string plain(box.size() - kMac, '\0');
  if (crypto_box_open_easy_afternm(raw(plain.data()), raw(box), box.size(),
                                   nonce_of("CurveZMQINITIATE", number).data(),
                                   shared_.data()) != 0) {
    return corrupt("an INITIATE does not open");
  }
  Key client{};
  std::memcpy(client.data(), plain.data(), kKeyBytes);
  const std::string_view vouch = std::string_view(plain).substr(kKeyBytes, kVouchBytes);
  std::array<unsigned char, 2 * kKeyBytes> vouched{};
  if (crypto_box_open_easy(vouched.data(), raw(vouch.substr(16)), kVouchBytes - 16,
                           nonce_of("VOUCH---", vouch.substr(0, 16)).data(), client.data(),
                           short_secret_.data()) != 0 ||
      sodium_memcmp(vouched.data(), client_short_.data(), kKeyBytes) != 0 ||
      sodium_memcmp(vouched.data() + kKeyBytes, options_.public_key.data(), kKeyBytes) != 0) {
    return corrupt("a client does not have the secret of the key that it shows");
  }
  if (!names_a_dealer(std::string_view(plain).substr(kKeyBytes + kVouchBytes))) {
    return corrupt("a client is no DEALER");
  }
  std::array<char, kKeyTextBytes + 1> text{};
  zmq_z85_encode(text.data(), client.data(), client.size());
  if (!options_.admits(text.data())) {
    farewell_ = frame(kCommand, kRefused);
    return fail(ErrorCode::kUnauthorized, std::string("unknown key ") + text.data());
  }
  key_ = text.data();

  std::string metadata;
  put_property(metadata, "Socket-Type", "ROUTER");
  put_property(metadata, "Identity", "");
  const std::string mine = short_nonce(++sent_);
  std::string sealed(metadata.size() + kMac, '\0');
  crypto_box_easy_afternm(raw(sealed.data()), raw(metadata), metadata.size(),
                          nonce_of("CurveZMQREADY---", mine).data(), shared_.data());
  return frame(kCommand, std::string(kReady) + mine + sealed);
}

// | name 8 | nonce 8 | box of | flags 1 | data | |
// libzmq sends it as a plain frame; "more" and "command" are told within the box.
Result<Dialogue::Taken> CurveServer::on_message(Bytes bytes) {
  const std::string_view body = bytes.view();
  if (body.size() < kMessageOverhead || !body.starts_with(kMessage)) {
    return corrupt("a frame is no MESSAGE");
  }
  const std::string_view number = body.substr(kMessage.size(), 8);
  if (number_of(number) <= heard_) return corrupt("a MESSAGE was repeated");
  heard_ = number_of(number);
  constexpr std::size_t kMacAt = kMessage.size() + 8;
  constexpr std::size_t kPlainAt = kMacAt + kMac;
  unsigned char* const at = raw(bytes.span().data());
  if (crypto_box_open_detached_afternm(
          at + kPlainAt, at + kPlainAt, at + kMacAt, bytes.size() - kPlainAt,
          nonce_of("CurveZMQMESSAGEC", number).data(), shared_.data()) != 0) {
    return corrupt("a MESSAGE does not open");
  }
  const std::uint8_t flags = at[kPlainAt];
  Taken taken;
  if ((flags & 2U) != 0) return taken;  // Commands of ZMTP 3.1 that we do not take part in.
  if (parts_.size() >= options_.parts_max) {
    return fail(ErrorCode::kTooLarge, "a message has too many parts");
  }
  parts_.push_back({.bytes = std::move(bytes), .offset = kPlainAt + 1});
  if ((flags & kMore) != 0) return taken;
  taken.message = std::exchange(parts_, {});
  return taken;
}

std::string CurveServer::frame(std::uint8_t flags, std::string_view body) const {
  std::string out;
  out.reserve(body.size() + 9);
  if (body.size() > 255) {
    out += static_cast<char>(flags | kLong);
    out += short_nonce(body.size());
  } else {
    out += static_cast<char>(flags);
    out += static_cast<char>(body.size());
  }
  out += body;
  return out;
}

std::string CurveServer::seal(std::string_view part, bool more) {
  const std::string mine = short_nonce(++sent_);
  std::string plain(1, static_cast<char>(more ? kMore : 0));
  plain += part;
  std::string body(kMessage);
  body += mine;
  const std::size_t at = body.size();
  body.resize(at + kMac + plain.size());
  crypto_box_easy_afternm(raw(body.data() + at), raw(plain), plain.size(),
                          nonce_of("CurveZMQMESSAGES", mine).data(), shared_.data());
  return frame(0, body);
}

}  // namespace farside::bus
