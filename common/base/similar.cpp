#include "common/base/similar.h"

#include <algorithm>

namespace farside {
namespace {

constexpr std::size_t kMistakesMax = 3;

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string nearest_of(const std::vector<std::string>& known, std::string_view word) {
  const auto found = std::ranges::min_element(
      known, {}, [&](const std::string& name) { return edit_distance(name, word); });
  if (found == known.end()) return {};
  const auto mistakes = edit_distance(*found, word);
  // Of a short word little would be left.
  return mistakes <= kMistakesMax && 2 * mistakes <= word.size() ? *found : std::string{};
}

}  // namespace farside
