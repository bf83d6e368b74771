// Records of one kind in one column: the generated codecs on top of a store.
//
// Owns: the name of its column.  Thread: that of the reader it is given.
// A record that does not decode is kCorrupt, with column and key in the text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/store/store.h"
#include "common/wire/codec.h"

namespace farside::store {

template <class T>
class Table final {
 public:
  explicit Table(std::string_view column) : column_(column) {}

  Result<std::optional<T>> get(const Reader& reader, std::string_view key) const {
    FARSIDE_ASSIGN(const std::optional<std::string> bytes, reader.get(column_, key));
    if (!bytes) return std::nullopt;
    auto record = msg::decode<T>(*bytes);
    if (!record) return fail(record.error().in(name_of(key)));
    return std::optional<T>(std::move(*record));
  }

  void put(Batch& batch, std::string_view key, const T& record) const {
    batch.put(column_, key, encode(record));  // Found by argument: farside::msg::encode.
  }
  void erase(Batch& batch, std::string_view key) const { batch.erase(column_, key); }

  // In byte order of the keys.
  Result<std::vector<std::pair<std::string, T>>> all(const Reader& reader,
                                                     std::string_view prefix = {}) const {
    std::vector<std::pair<std::string, T>> out;
    Status broken;
    FARSIDE_TRY(reader.scan(column_, prefix, {}, [&](std::string_view key, std::string_view bytes) {
      auto record = msg::decode<T>(bytes);
      if (!record) {
        broken = fail(record.error().in(name_of(key)));
        return false;
      }
      out.emplace_back(key, std::move(*record));
      return true;
    }));
    FARSIDE_TRY(std::move(broken));
    return out;
  }

  const std::string& column() const { return column_; }

 private:
  std::string name_of(std::string_view key) const {
    return "record " + column_ + "/" + std::string(key);
  }

  std::string column_;
};

}  // namespace farside::store
