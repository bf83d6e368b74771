#include "common/metrics/registry.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <cmath>
#include <exception>
#include <functional>
#include <mutex>
#include <sstream>
#include <utility>

#include "common/base/assert.h"

namespace farside::metrics {

void Counter::add(double amount) {
  if (counter_ != nullptr && amount > 0) counter_->Increment(amount);
}
void Counter::raise_to(double total) {
  add(total - value());
}
double Counter::value() const {
  return counter_ == nullptr ? 0 : counter_->Value();
}

void Gauge::set(double value) {
  if (gauge_ != nullptr) gauge_->Set(value);
}
void Gauge::add(double amount) {
  if (gauge_ != nullptr) gauge_->Increment(amount);
}
double Gauge::value() const {
  return gauge_ == nullptr ? 0 : gauge_->Value();
}

void Histogram::observe(double value) {
  if (histogram_ != nullptr) histogram_->Observe(value);
}

std::vector<double> seconds_buckets() {
  return {0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600};
}

struct Registry::Impl {
  // What it takes to remove one figure again; the library's families cannot be listed.
  struct Entry {
    Labels labels;
    std::function<void()> remove;
  };

  prometheus::Registry registry;
  std::mutex mutex;  // Guards `entries`; the library guards itself.
  std::map<std::pair<std::string, Labels>, Entry> entries;

  template <class Builder, class... Args>
  auto* add(Builder builder, const std::string& name, const std::string& help, const Labels& labels,
            const Args&... args) {
    using Family = std::remove_reference_t<decltype(builder.Register(registry))>;
    using Metric = std::remove_reference_t<decltype(std::declval<Family&>().Add({}, args...))>;
    Metric* metric = nullptr;
    try {
      Family& family = builder.Name(name).Help(help).Register(registry);
      metric = &family.Add(labels, args...);
      const std::lock_guard lock(mutex);
      entries[{name, labels}] = {.labels = labels,
                                 .remove = [&family, metric] { family.Remove(metric); }};
    } catch (const std::exception& error) {
      std::fprintf(stderr, "metric %s: %s\n", name.c_str(), error.what());
    }
    FARSIDE_ASSERT(metric != nullptr);
    return metric;
  }
};

Registry::Registry() : impl_(std::make_unique<Impl>()) {}
Registry::~Registry() = default;

Counter Registry::counter(const std::string& name, const std::string& help, const Labels& labels) {
  return Counter(impl_->add(prometheus::BuildCounter(), name, help, labels));
}

Gauge Registry::gauge(const std::string& name, const std::string& help, const Labels& labels) {
  return Gauge(impl_->add(prometheus::BuildGauge(), name, help, labels));
}

Histogram Registry::histogram(const std::string& name, const std::string& help,
                              const std::vector<double>& buckets, const Labels& labels) {
  return Histogram(impl_->add(prometheus::BuildHistogram(), name, help, labels,
                              prometheus::Histogram::BucketBoundaries(buckets)));
}

void Registry::forget(const std::string& label, const std::string& value) {
  const std::lock_guard lock(impl_->mutex);
  std::erase_if(impl_->entries, [&](auto& entry) {
    const auto found = entry.second.labels.find(label);
    if (found == entry.second.labels.end() || found->second != value) return false;
    entry.second.remove();
    return true;
  });
}

std::string Registry::text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->registry.Collect());
  return std::move(out).str();
}

}  // namespace farside::metrics
