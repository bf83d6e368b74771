// farside-smb: one SMB connection, served to the agent that started it.
//
//   farside-smb FD      FD: a connected stream socket, handed down at exec; see protocol.h
//
// It ends when the other side of the socket is closed, and with a message on stderr when a request
// is malformed.  Links libsmbclient (GPL-3), as nothing else of Farside does.
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "services/agent/platforms/hyperv/smb/session.h"

namespace farside::agent::smb {
namespace {

constexpr int kGone = 0;
constexpr int kMalformed = 2;

Reply refusal(const Error& error) {
  return Refused{.code = static_cast<std::uint16_t>(error.code),
                 .what = error.what.substr(0, kTextBytesMax),
                 .advice = error.advice.substr(0, kTextBytesMax)};
}

Reply reply_of(const Status& status) {
  if (!status) return refusal(status.error());
  return Done{};
}

template <class T>
Reply reply_of(Result<T> result) {
  if (!result) return refusal(result.error());
  return std::move(*result);
}

struct Answer {
  Session& session;

  Reply operator()(const Connect& r) const { return reply_of(session.connect(r)); }
  Reply operator()(const GetAttributes& r) const { return reply_of(session.attributes(r.path)); }
  Reply operator()(const ListFolder& r) const { return reply_of(session.list(r.path)); }
  Reply operator()(const MakeFolders& r) const { return reply_of(session.make_folders(r.path)); }
  Reply operator()(const Rename& r) const { return reply_of(session.rename(r.from, r.to)); }
  Reply operator()(const Remove& r) const { return reply_of(session.remove(r.path)); }
  Reply operator()(const GetSpace& r) const { return reply_of(session.space(r.path)); }
  Reply operator()(const Open& r) const { return reply_of(session.open(r)); }
  Reply operator()(const Close& r) const { return reply_of(session.close(r.handle)); }
  Reply operator()(const GetSize& r) const { return reply_of(session.size(r.handle)); }
  Reply operator()(const Write& r) const { return reply_of(session.write(r)); }
  Reply operator()(const Truncate& r) const { return reply_of(session.truncate(r)); }
  Reply operator()(const Flush& r) const { return reply_of(session.flush(r.handle)); }
  Reply operator()(const Read&) const { return Done{}; }  // Has its own way, see serve().
};

bool send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

int malformed(const Error& error) {
  std::fprintf(stderr, "farside-smb: %s\n", to_text(error).c_str());
  return kMalformed;
}

int serve(int socket) {
  Session session;
  std::string in;
  std::size_t used = 0;  // Of `in`: bytes of frames that are done with.
  std::string out;
  while (true) {
    const auto frame = first_frame(std::string_view(in).substr(used));
    if (!frame) return malformed(frame.error());
    if (!*frame) {
      in.erase(0, used);
      used = 0;
      const std::size_t have = in.size();
      constexpr std::size_t kStep = 256U << 10U;
      in.resize(have + kStep);
      ssize_t count = 0;
      do {
        count = ::recv(socket, in.data() + have, kStep, 0);
      } while (count < 0 && errno == EINTR);
      if (count <= 0) return kGone;
      in.resize(have + static_cast<std::size_t>(count));
      continue;
    }
    const auto request = decode_request(**frame);
    if (!request) return malformed(request.error());
    if (const auto* read = std::get_if<Read>(&request->message)) {
      out.resize(kReadPrefixBytes + read->length);
      const auto count = session.read(*read, out.data() + kReadPrefixBytes);
      if (count) {
        seal_bytes_read(request->id, *count, out);
      } else {
        out = encode(request->id, refusal(count.error()));
      }
    } else {
      out = encode(request->id, std::visit(Answer{session}, request->message));
    }
    used += kLengthBytes + (*frame)->size();
    if (!send_all(socket, out)) return kGone;
  }
}

}  // namespace
}  // namespace farside::agent::smb

int main(int argc, char** argv) {
  int socket = -1;
  const char* end = argc == 2 ? argv[1] + std::strlen(argv[1]) : nullptr;
  if (end == nullptr || std::from_chars(argv[1], end, socket).ptr != end || socket <= 2) {
    std::fprintf(stderr, "farside-smb is started by farside-agent, with a socket's number\n");
    return 64;
  }
  ::prctl(PR_SET_DUMPABLE, 0);  // It holds a password.
  return farside::agent::smb::serve(socket);
}
