#include "common/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "common/base/log_value.h"

namespace farside::log {
namespace {

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = spdlog::stderr_logger_mt("farside");
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void set_up(std::string_view program, std::string_view level) {
  auto& out = logger();
  out.set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l " + std::string(program) + " %v",
                  spdlog::pattern_time_type::utc);
  if (level == "debug") out.set_level(spdlog::level::debug);
  if (level == "warn") out.set_level(spdlog::level::warn);
  if (level == "error") out.set_level(spdlog::level::err);
  if (level == "off") out.set_level(spdlog::level::off);
}

void write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  auto& out = logger();
  if (!out.should_log(to_spdlog(level))) return;
  std::string line(event);
  for (const Field& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    append_value(line, field.value);
  }
  out.log(to_spdlog(level), line);
}

}  // namespace farside::log
