#include "cli/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace farside::cli {
namespace {

bool is_never(std::string_view iso) {
  return iso.empty() || iso.starts_with("0001-") || iso.starts_with("1753-");
}

// Columns a text takes: code points, which is right for what people name machines.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

// The vault writes seven digits of a second, as its model did; we keep six.
Result<Time> parse(std::string_view iso) {
  std::string text(iso);
  const std::size_t dot = text.find('.');
  if (dot != std::string::npos && text.size() > dot + 8 && text.ends_with('Z')) {
    text = text.substr(0, dot + 7) + "Z";
  }
  return time_from_iso(text);
}

}  // namespace

std::string bytes_text(double bytes) {
  constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string seconds_text(std::int64_t seconds) {
  if (seconds < 0) seconds = 0;
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  if (seconds < 86400) return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
  return fmt::format("{} d {} h", seconds / 86400, seconds / 3600 % 24);
}

std::string bar(double done, double total, std::size_t width) {
  const double part = total > 0 ? std::clamp(done / total, 0.0, 1.0) : 0.0;
  const auto filled = static_cast<std::size_t>(part * static_cast<double>(width));
  return fmt::format("[{}{}] {:3.0f} %", std::string(filled, '#'), std::string(width - filled, '-'),
                     part * 100);
}

std::string age_text(std::string_view iso, Time now) {
  if (is_never(iso)) return "-";
  const auto time = parse(iso);
  if (!time) return std::string(iso);
  return seconds_text((now - *time).count() / 1'000'000) + " ago";
}

std::string date_text(std::string_view iso) {
  if (is_never(iso)) return "-";
  std::string text(iso.substr(0, 19));
  std::ranges::replace(text, 'T', ' ');
  return text;
}

std::string last_segment(std::string_view arm_id) {
  std::string out;
  const std::string_view segment = arm_id.substr(arm_id.rfind('/') + 1);
  for (std::size_t i = 0; i < segment.size(); ++i) {
    unsigned int byte = 0;
    if (segment[i] == '%' && i + 2 < segment.size() &&
        std::sscanf(std::string(segment.substr(i + 1, 2)).c_str(), "%2x", &byte) == 1) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += segment[i];
    }
  }
  return out;
}

std::string table(const std::vector<std::string>& headings,
                  const std::vector<std::vector<std::string>>& rows) {
  if (rows.empty()) return "nothing\n";
  std::vector<std::size_t> widths;
  for (const std::string& heading : headings) widths.push_back(width_of(heading));
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  }
  std::string out;
  const auto add = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      line += row[i] + std::string(widths[i] - width_of(row[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  add(headings);
  for (const auto& row : rows) add(row);
  return out;
}

std::string table_within(std::size_t width, const std::vector<std::string>& dispensable,
                         std::vector<std::string> headings,
                         std::vector<std::vector<std::string>> rows) {
  auto out = table(headings, rows);
  const auto is_too_wide = [&] {
    for (std::size_t start = 0; start < out.size();) {
      const auto end = std::min(out.find('\n', start), out.size());
      if (width_of(std::string_view(out).substr(start, end - start)) > width) return true;
      start = end + 1;
    }
    return false;
  };
  for (const auto& name : dispensable) {
    if (!is_too_wide()) break;
    const auto found = std::ranges::find(headings, name);
    if (found == headings.end()) continue;
    const auto column = found - headings.begin();
    headings.erase(found);
    for (auto& row : rows) {
      if (column < std::ssize(row)) row.erase(row.begin() + column);
    }
    out = table(headings, rows);
  }
  return out;
}

std::string sheet(const std::vector<std::pair<std::string, std::string>>& lines) {
  std::size_t width = 0;
  for (const auto& [name, value] : lines) {
    if (!value.empty()) width = std::max(width, name.size());
  }
  std::string out;
  for (const auto& [name, value] : lines) {
    if (value.empty()) continue;
    out += name + ":" + std::string(width - name.size() + 2, ' ') + value + "\n";
  }
  return out;
}

}  // namespace farside::cli
