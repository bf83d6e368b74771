#include "common/base/clock.h"

#include <fmt/format.h>

#include <cstdio>
#include <ctime>

namespace farside {

std::string to_iso(Time time) {
  std::int64_t seconds = time.micros / 1'000'000;
  std::int64_t fraction = time.micros % 1'000'000;
  if (fraction < 0) {
    fraction += 1'000'000;
    seconds -= 1;
  }
  const std::time_t t = seconds;
  std::tm tm{};
  gmtime_r(&t, &tm);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", tm.tm_year + 1900, tm.tm_mon + 1,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, fraction);
}

Result<Time> time_from_iso(std::string_view text) {
  const std::string copy(text);
  std::tm tm{};
  const char* rest = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &tm);
  const auto refuse = [&] {
    return fail(ErrorCode::kInvalidArgument, "'" + copy + "' is not a UTC time",
                "write it as 2026-03-01T12:34:56Z");
  };
  if (rest == nullptr) return refuse();
  std::int64_t micros = std::int64_t{timegm(&tm)} * 1'000'000;
  if (*rest == '.') {
    std::int64_t scale = 100'000;
    for (++rest; *rest >= '0' && *rest <= '9'; ++rest) {
      micros += (*rest - '0') * scale;
      scale /= 10;
    }
  }
  if (*rest == 'Z') ++rest;
  if (*rest != '\0') return refuse();
  return Time{micros};
}

Time SystemClock::now() const {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return Time{std::chrono::duration_cast<Micros>(since).count()};
}

Micros SystemClock::monotonic() const {
  return std::chrono::duration_cast<Micros>(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace farside
