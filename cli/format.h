// How values are shown to people.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/clock.h"

namespace farside::cli {

std::string bytes_text(double bytes);                           // "1.5 GiB"
std::string seconds_text(std::int64_t seconds);                 // "42 s", "3 min 5 s", "2 d 4 h"
std::string bar(double done, double total, std::size_t width);  // "[#####-----]  50 %"

// "12 s ago"; "-" for the dates with which the vault says "never".
std::string age_text(std::string_view iso, Time now);
// "2026-03-01 12:34:56" UTC, or "-".
std::string date_text(std::string_view iso);

std::string last_segment(std::string_view arm_id);  // Decoded.

// Rows under headings, columns as wide as their widest cell; "nothing" if there are no rows.
std::string table(const std::vector<std::string>& headings,
                  const std::vector<std::vector<std::string>>& rows);
// The same within so many columns, as far as leaving out the columns headed `dispensable` allows,
// the first of them first.
std::string table_within(std::size_t width, const std::vector<std::string>& dispensable,
                         std::vector<std::string> headings,
                         std::vector<std::vector<std::string>> rows);
// "name:   value" lines; empty values are left out.
std::string sheet(const std::vector<std::pair<std::string, std::string>>& lines);

}  // namespace farside::cli
