// Structured logs: one `time level event key=value …` line each, to standard error.
// Values with spaces are quoted.  Payloads and secrets are never logged.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "common/base/error.h"

namespace farside::log {

enum class Level { kDebug, kInfo, kWarn, kError };

struct Field {
  template <class T>
    requires std::is_integral_v<T>
  Field(std::string_view k, T v) : key(k), value(std::to_string(v)) {}
  Field(std::string_view k, std::string_view v) : key(k), value(v) {}
  Field(std::string_view k, const char* v) : key(k), value(v) {}
  Field(std::string_view k, const std::string& v) : key(k), value(v) {}
  Field(std::string_view k, const Error& e) : key(k), value(to_text(e)) {}

  std::string_view key;
  std::string value;
};

// Call once in main before threads start.  Errors: an unknown level name counts as info.
void set_up(std::string_view program, std::string_view level);

void write(Level level, std::string_view event, std::initializer_list<Field> fields);

inline void debug(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kDebug, event, fields);
}
inline void info(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kInfo, event, fields);
}
inline void warn(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kWarn, event, fields);
}
inline void error(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::kError, event, fields);
}

}  // namespace farside::log
