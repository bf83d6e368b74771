// Values that nobody means well with, for every field of every message: made from a seed, out of
// the schemas themselves, so that a field that is added later is tried, too.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "tests/support/schema_shapes.h"

namespace farside::hostile {

using test::Record;
using test::Union;

class Maker final {
 public:
  // `words`: names, ids and paths that mean something to the victim.
  Maker(std::uint64_t seed, std::vector<std::string> words)
      : random_(seed), words_(std::move(words)) {}

  std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }
  bool chance(double probability) { return random_.chance(probability); }

  const std::string& word() { return words_[random_.below(words_.size())]; }

  std::string text() {
    if (random_.chance(0.6)) return word();
    switch (random_.below(9)) {
      case 0:
        return {};
      case 1:
        return "../../../../../../etc/passwd";
      case 2:
        return "/etc/shadow";
      case 3:
        return word() + "/../" + word();
      case 4:
        return std::string(1 + random_.below(4096), 'A');
      case 5:
        return word() + std::string("\0\x1B[2J\r\n'\"<>&`$(reboot)", 24);
      case 6:
        return "\xC3\x28\xF0\x9F\x92";  // No UTF-8.
      case 7:
        return std::to_string(number());
      default: {
        std::string noise(random_.below(64), '\0');
        for (char& c : noise) c = static_cast<char>(random_.next());
        return noise;
      }
    }
  }

  std::uint64_t number() {
    switch (random_.below(8)) {
      case 0:
        return 0;
      case 1:
        return ~std::uint64_t{0};
      case 2:
        return std::uint64_t{1} << 63U;
      case 3:
        return (std::uint64_t{1} << 63U) - 1;
      case 4:
        return std::uint64_t{1} << random_.below(64);
      case 5:
        return random_.next();
      default:
        return random_.below(16);
    }
  }

  void fill(bool& out) { out = random_.chance(0.5); }
  void fill(std::string& out) { out = text(); }
  void fill(double& out) {
    static constexpr double kOdd[] = {0, -1, 1e308, std::numeric_limits<double>::infinity(),
                                      std::numeric_limits<double>::quiet_NaN()};
    out = kOdd[random_.below(std::size(kOdd))];
  }
  template <std::integral Number>
  void fill(Number& out) {
    out = static_cast<Number>(number());
  }
  template <class E>
    requires std::is_enum_v<E>
  void fill(E& out) {
    out = static_cast<E>(random_.below(12));  // Whether there are so many or not.
  }
  template <class Item>
  void fill(std::optional<Item>& out) {
    if (random_.chance(0.7)) fill(out.emplace());
  }
  template <class Item>
  void fill(std::vector<Item>& out) {
    if (depth_ > 3) return;
    ++depth_;
    out.resize(random_.chance(0.05) ? 500 : random_.below(4));
    for (std::size_t i = 0; i < out.size(); ++i) {
      // The bool of std::vector<bool> is no bool.
      Item item{};
      fill(item);
      out[i] = std::move(item);
    }
    --depth_;
  }
  template <Record T>
  void fill(T& out) {
    ++depth_;
    msg::for_each_field([&](const char*, auto& field) { fill(field); }, out);
    --depth_;
  }
  template <Union T>
  void fill(T& out) {
    auto arms = test::arms_of<T>();
    out = std::move(arms[random_.below(arms.size())]);
    std::visit([&](auto& arm) { fill(arm); }, out.value);
  }

 private:
  SeededRandom random_;
  const std::vector<std::string> words_;
  int depth_ = 0;
};

}  // namespace farside::hostile
