// Where identifiers and secrets come from: the kernel in production, a seed in simulation.
#pragma once

#include <cstdint>
#include <string>

namespace farside {

class Random {
 public:
  virtual ~Random() = default;
  virtual std::uint64_t next() = 0;

  std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
  bool chance(double probability) {
    return static_cast<double>(next() >> 11U) * 0x1.0p-53 < probability;
  }
  std::string uuid();                  // RFC 4122 version 4, lower case.
  std::string hex(std::size_t bytes);  // 2 * bytes digits.
};

class SystemRandom final : public Random {
 public:
  std::uint64_t next() override;  // getrandom(2): fit for secrets.
};

class SeededRandom final : public Random {  // SplitMix64: repeatable, not secret.
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() override;

 private:
  std::uint64_t state_;
};

}  // namespace farside
