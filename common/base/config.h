// Configuration from a TOML file.  A service declares each key once, with its default and bounds,
// by reading it; afterwards `finish()` refuses every key that nobody read, so that a typo is an
// error with a suggestion and never a silently ignored setting.
//
// Thread: main, before any other starts.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace farside {

class Config final {
 public:
  // Errors: kNotFound, kInvalidArgument (the text has file, line and column).
  static Result<Config> from_file(const std::string& path);
  static Result<Config> from_text(std::string_view text, std::string name);

  Config(Config&&) noexcept;
  Config& operator=(Config&&) noexcept;
  ~Config();

  // `key` may be dotted: "listen.port".  Wrong types and values out of range are remembered and
  // reported by finish(); the default is returned meanwhile.
  std::string text(std::string_view key, std::string_view fallback);
  std::string required_text(std::string_view key);
  std::string choice(std::string_view key, std::string_view fallback,
                     std::initializer_list<std::string_view> allowed);
  std::int64_t integer(std::string_view key, std::int64_t fallback, std::int64_t min,
                       std::int64_t max);
  bool boolean(std::string_view key, bool fallback);
  std::vector<std::string> texts(std::string_view key);

  // Sub-tables of an array of tables ([[cloud]]), each to be read and finished like this one; they
  // are moved out, so ask once.
  std::vector<Config> tables(std::string_view key);

  // Errors: kInvalidArgument with every mistake found, one per line: file, line, key, what is
  // wrong, what is allowed or which key was probably meant.
  Status finish();

 private:
  struct Impl;
  explicit Config(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside
