#include <map>
#include <utility>

#include "common/store/store.h"

namespace farside::store {

void Batch::put(std::string_view column, std::string_view key, std::string value) {
  operations_.push_back(
      {.column = std::string(column), .key = std::string(key), .value = std::move(value)});
}

void Batch::erase(std::string_view column, std::string_view key) {
  operations_.push_back(
      {.column = std::string(column), .key = std::string(key), .value = std::nullopt});
}

Result<std::optional<std::string>> Overlay::get(std::string_view column,
                                                std::string_view key) const {
  const auto& operations = batch_.operations();
  for (auto it = operations.rbegin(); it != operations.rend(); ++it) {
    if (it->key == key && it->column == column) return it->value;
  }
  return below_.get(column, key);
}

Status Overlay::scan(std::string_view column, std::string_view prefix, std::string_view from,
                     const Visitor& visit) const {
  // The last planned value of each key in range; it hides what lies below.
  std::map<std::string_view, const Batch::Operation*> planned;
  for (const Batch::Operation& operation : batch_.operations()) {
    if (operation.column == column && operation.key.starts_with(prefix) && operation.key >= from) {
      planned[operation.key] = &operation;
    }
  }

  auto next = planned.begin();
  bool going = true;
  const auto visit_planned = [&] {
    const auto& value = (next++)->second->value;
    if (value) going = visit(std::prev(next)->first, *value);
  };
  FARSIDE_TRY(below_.scan(column, prefix, from, [&](std::string_view key, std::string_view value) {
    while (going && next != planned.end() && next->first < key) visit_planned();
    if (!going) return false;
    if (next != planned.end() && next->first == key) {
      visit_planned();
    } else {
      going = visit(key, value);
    }
    return going;
  }));
  while (going && next != planned.end()) visit_planned();
  return {};
}

}  // namespace farside::store
