// The figures a process shows to Prometheus: handles by name, help and labels.
//
// Owns: every metric; handles stay valid as long as their registry.
// Thread: any.  Asking twice for the same name and labels gives the same figure.
// Names and labels are constants of ours: a bad one, or one name with two types, is a bug and
// ends the process.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace farside::metrics {

using Labels = std::map<std::string, std::string>;

// A default-constructed handle counts nowhere, so that parts can be built without a registry.
class Counter final {
 public:
  Counter() = default;
  void add(double amount = 1);  // Negative amounts are ignored: counters only grow.
  void raise_to(double total);  // Of what is counted elsewhere; a smaller one is ignored.
  double value() const;

 private:
  friend class Registry;
  explicit Counter(prometheus::Counter* counter) : counter_(counter) {}
  prometheus::Counter* counter_ = nullptr;
};

class Gauge final {
 public:
  Gauge() = default;
  void set(double value);
  void add(double amount);
  double value() const;

 private:
  friend class Registry;
  explicit Gauge(prometheus::Gauge* gauge) : gauge_(gauge) {}
  prometheus::Gauge* gauge_ = nullptr;
};

class Histogram final {
 public:
  Histogram() = default;
  void observe(double value);

 private:
  friend class Registry;
  explicit Histogram(prometheus::Histogram* histogram) : histogram_(histogram) {}
  prometheus::Histogram* histogram_ = nullptr;
};

// Upper bounds in seconds that suit calls and phases from a millisecond to ten minutes.
std::vector<double> seconds_buckets();

class Registry final {
 public:
  Registry();
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  Counter counter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge gauge(const std::string& name, const std::string& help, const Labels& labels = {});
  Histogram histogram(const std::string& name, const std::string& help,
                      const std::vector<double>& buckets, const Labels& labels = {});

  // Forgets every figure carrying this label, as when a protected item is gone: its last value
  // would otherwise be shown, and alerted on, for ever.  Handles to them are dead afterwards.
  void forget(const std::string& label, const std::string& value);

  // All figures in the Prometheus text format.
  std::string text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace farside::metrics
