#include "common/base/config.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "common/base/similar.h"

namespace farside {
namespace {

void leaves(const toml::table& table, const std::string& prefix,
            std::vector<std::pair<std::string, toml::source_position>>& out) {
  for (const auto& [key, node] : table) {
    const std::string path = prefix + std::string(key.str());
    if (const auto* sub = node.as_table()) {
      leaves(*sub, path + ".", out);
    } else {
      out.emplace_back(path, node.source().begin);
    }
  }
}

}  // namespace

struct Config::Impl {
  std::string name;
  toml::table table;
  std::set<std::string, std::less<>> known;
  std::vector<std::string> mistakes;

  const toml::node* find(std::string_view key) {
    known.emplace(key);
    return table.at_path(key).node();
  }
  void mistake(const toml::node& node, std::string_view key, std::string_view what) {
    mistakes.push_back(fmt::format("{}:{}: '{}' {}", name, node.source().begin.line, key, what));
  }
};

Config::Config(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Config::Config(Config&&) noexcept = default;
Config& Config::operator=(Config&&) noexcept = default;
Config::~Config() = default;

Result<Config> Config::from_file(const std::string& path) {
  if (std::error_code ec; !std::filesystem::is_regular_file(path, ec)) {
    return fail(ErrorCode::kNotFound, fmt::format("configuration file '{}' cannot be read", path),
                "check the path given with --config");
  }
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return from_text(text.str(), path);
}

Result<Config> Config::from_text(std::string_view text, std::string name) {
  try {
    auto impl = std::make_unique<Impl>();
    impl->table = toml::parse(text, name);
    impl->name = std::move(name);
    return Config(std::move(impl));
  } catch (const toml::parse_error& e) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}:{}:{}: {}", name, e.source().begin.line, e.source().begin.column,
                            e.description()),
                "correct this line and start again");
  }
}

std::string Config::text(std::string_view key, std::string_view fallback) {
  const auto* node = impl_->find(key);
  if (node == nullptr) return std::string(fallback);
  if (const auto value = node->value_exact<std::string>()) return *value;
  impl_->mistake(*node, key, "must be a text in quotes");
  return std::string(fallback);
}

std::string Config::required_text(std::string_view key) {
  if (impl_->find(key) == nullptr) {
    impl_->mistakes.push_back(
        fmt::format("{}: '{}' is missing and has no default", impl_->name, key));
    return {};
  }
  return text(key, "");
}

std::string Config::choice(std::string_view key, std::string_view fallback,
                           std::initializer_list<std::string_view> allowed) {
  auto value = text(key, fallback);
  if (std::ranges::find(allowed, value) != allowed.end()) return value;
  impl_->mistake(*impl_->find(key), key,
                 fmt::format("is '{}', must be one of: {}", value, fmt::join(allowed, ", ")));
  return std::string(fallback);
}

std::int64_t Config::integer(std::string_view key, std::int64_t fallback, std::int64_t min,
                             std::int64_t max) {
  const auto* node = impl_->find(key);
  if (node == nullptr) return fallback;
  const auto value = node->value_exact<std::int64_t>();
  if (value && *value >= min && *value <= max) return *value;
  impl_->mistake(*node, key, fmt::format("must be a whole number from {} to {}", min, max));
  return fallback;
}

bool Config::boolean(std::string_view key, bool fallback) {
  const auto* node = impl_->find(key);
  if (node == nullptr) return fallback;
  if (const auto value = node->value_exact<bool>()) return *value;
  impl_->mistake(*node, key, "must be true or false");
  return fallback;
}

std::vector<std::string> Config::texts(std::string_view key) {
  const auto* node = impl_->find(key);
  if (node == nullptr) return {};
  std::vector<std::string> out;
  const auto* array = node->as_array();
  if (array == nullptr) {
    impl_->mistake(*node, key, "must be a list of texts: [\"a\", \"b\"]");
    return {};
  }
  for (const auto& element : *array) {
    if (const auto value = element.value_exact<std::string>()) {
      out.push_back(*value);
    } else {
      impl_->mistake(element, key, "must be a list of texts: [\"a\", \"b\"]");
    }
  }
  return out;
}

std::vector<Config> Config::tables(std::string_view key) {
  if (impl_->find(key) == nullptr) return {};
  auto node = impl_->table.at_path(key);
  auto* array = node.as_array();
  if (array == nullptr || !array->is_array_of_tables()) {
    impl_->mistake(*node.node(), key, fmt::format("must be written as tables: [[{}]]", key));
    return {};
  }
  std::vector<Config> out;
  for (auto& element : *array) {
    auto impl = std::make_unique<Impl>();
    impl->name = impl_->name;
    impl->table = std::move(*element.as_table());  // A copy would lose the line numbers.
    out.push_back(Config(std::move(impl)));
  }
  return out;
}

Status Config::finish() {
  std::vector<std::pair<std::string, toml::source_position>> present;
  leaves(impl_->table, "", present);
  for (const auto& [path, position] : present) {
    if (impl_->known.contains(path)) continue;
    std::string line = fmt::format("{}:{}: unknown key '{}'", impl_->name, position.line, path);
    const auto nearest = nearest_of({impl_->known.begin(), impl_->known.end()}, path);
    if (!nearest.empty()) {
      line += fmt::format(", did you mean '{}'?", nearest);
    } else {
      line += fmt::format("; known here: {}", fmt::join(impl_->known, ", "));
    }
    impl_->mistakes.push_back(std::move(line));
  }
  if (impl_->mistakes.empty()) return {};
  std::string all;
  for (const auto& line : impl_->mistakes) all += (all.empty() ? "" : "\n") + line;
  return fail(ErrorCode::kInvalidArgument, all, "correct the file and start again");
}

}  // namespace farside
