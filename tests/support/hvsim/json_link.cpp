#include "tests/support/hvsim/json_link.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace farside::hvsim {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

JsonLink::~JsonLink() {
  ::close(fd_);
}

Status JsonLink::say(const Json& object) {
  const std::string line = object.dump() + "\n";
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t put = ::send(fd_, line.data() + at, line.size() - at, MSG_NOSIGNAL);
    if (put <= 0) return fail(ErrorCode::kUnavailable, "the other side hung up");
    at += static_cast<std::size_t>(put);
  }
  return {};
}

Result<Json> JsonLink::next(milliseconds within) {
  const auto deadline = steady_clock::now() + within;
  for (;;) {
    if (const std::size_t end = read_.find('\n'); end != std::string::npos) {
      std::string line = read_.substr(0, end);
      read_.erase(0, end + 1);
      // The guest agent marks the start of an answer after a pause by such a byte.
      std::erase(line, '\xff');
      Json parsed = Json::parse(line, nullptr, false);
      if (parsed.is_discarded()) return fail(ErrorCode::kCorrupt, "no JSON: " + line);
      return parsed;
    }
    const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now()).count();
    pollfd one{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&one, 1, static_cast<int>(std::max<long>(left, 0))) <= 0) {
      return fail(ErrorCode::kTimeout, "no answer");
    }
    std::array<char, 16'384> bytes{};
    const ssize_t got = ::recv(fd_, bytes.data(), bytes.size(), 0);
    if (got <= 0) return fail(ErrorCode::kUnavailable, "the other side hung up");
    read_.append(bytes.data(), static_cast<std::size_t>(got));
  }
}

Result<Json> JsonLink::ask(const std::string& command, const Json& arguments, milliseconds within) {
  const int id = ++last_id_;
  Json request{{"execute", command}, {"id", id}};
  if (!arguments.empty()) request["arguments"] = arguments;
  FARSIDE_TRY(say(request));
  const auto deadline = steady_clock::now() + within;
  for (;;) {
    FARSIDE_ASSIGN(Json one,
                   next(std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now())));
    if (one.contains("event")) {
      events_.push_back(std::move(one));
    } else if (one.value("id", 0) == id) {
      if (one.contains("return")) return one["return"];
      return fail(ErrorCode::kPlatform, command + ": " + one["error"].value("desc", one.dump()));
    }
  }
}

Result<Json> JsonLink::take_event() {
  if (events_.empty()) {
    auto one = next(milliseconds{0});
    if (!one && one.error().code == ErrorCode::kTimeout) return Json();
    if (!one) return fail(one.error());
    if (one->contains("event")) events_.push_back(std::move(*one));
  }
  if (events_.empty()) return Json();
  Json event = std::move(events_.front());
  events_.pop_front();
  return event;
}

}  // namespace farside::hvsim
