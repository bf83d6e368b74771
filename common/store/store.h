// Durable state of one process: ordered keys and opaque values, grouped in columns.
//
// Owns: nothing here; see RocksStore (production) and MemStore (tests and simulation), which pass
// the same contract suite.  Thread: one writer, the reactor; RocksStore may be read from others.
// Invariant: a batch is applied whole or not at all, and once commit() returned it survives
// power loss.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"

namespace farside::store {

struct Put {
  std::string column;
  std::string key;
  std::string value;
};

struct Erase {
  std::string column;
  std::string key;
};

// Operations in the order they were planned; a later one on the same key wins.
class Batch final {
 public:
  void put(std::string_view column, std::string_view key, std::string value);
  void erase(std::string_view column, std::string_view key);
  bool empty() const { return operations_.empty(); }
  void clear() { operations_.clear(); }

  struct Operation {
    std::string column;
    std::string key;
    std::optional<std::string> value;  // Absent: erase.
  };
  const std::vector<Operation>& operations() const { return operations_; }

 private:
  std::vector<Operation> operations_;
};

// Return false to stop the scan.
using Visitor = std::function<bool(std::string_view key, std::string_view value)>;

class Reader {
 public:
  virtual ~Reader() = default;

  // Errors: kIo, kCorrupt; an absent key is an empty optional, not an error.
  virtual Result<std::optional<std::string>> get(std::string_view column,
                                                 std::string_view key) const = 0;

  // Visits keys of `column` that start with `prefix` and are >= `from`, in byte order.
  // The views given to `visit` live until it returns.
  virtual Status scan(std::string_view column, std::string_view prefix, std::string_view from,
                      const Visitor& visit) const = 0;
};

class Store : public Reader {
 public:
  // Errors: kIo, kNoSpace.  After an error nothing of the batch is visible.
  virtual Status commit(const Batch& batch) = 0;
};

// A reader that sees `batch` on top of `below`: what a core reads during its turn.
class Overlay final : public Reader {
 public:
  Overlay(const Reader& below, const Batch& batch) : below_(below), batch_(batch) {}
  Result<std::optional<std::string>> get(std::string_view column,
                                         std::string_view key) const override;
  Status scan(std::string_view column, std::string_view prefix, std::string_view from,
              const Visitor& visit) const override;

 private:
  const Reader& below_;
  const Batch& batch_;
};

}  // namespace farside::store
