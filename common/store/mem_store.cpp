#include "common/store/mem_store.h"

#include <algorithm>
#include <utility>

namespace farside::store {

Result<std::optional<std::string>> MemStore::get(std::string_view column,
                                                 std::string_view key) const {
  const auto found = columns_.find(column);
  if (found == columns_.end()) return std::nullopt;
  const auto value = found->second.find(key);
  if (value == found->second.end()) return std::nullopt;
  return value->second;
}

Status MemStore::scan(std::string_view column, std::string_view prefix, std::string_view from,
                      const Visitor& visit) const {
  const auto found = columns_.find(column);
  if (found == columns_.end()) return {};
  for (auto it = found->second.lower_bound(std::max(prefix, from));
       it != found->second.end() && it->first.starts_with(prefix); ++it) {
    if (!visit(it->first, it->second)) break;
  }
  return {};
}

Status MemStore::commit(const Batch& batch) {
  if (next_failure_) return fail(*std::exchange(next_failure_, std::nullopt));
  for (const Batch::Operation& operation : batch.operations()) {
    Column& column = columns_[operation.column];
    if (operation.value) {
      column[operation.key] = *operation.value;
    } else {
      column.erase(operation.key);
    }
  }
  ++commits_;
  return {};
}

}  // namespace farside::store
