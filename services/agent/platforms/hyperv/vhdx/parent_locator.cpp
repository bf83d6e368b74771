#include "services/agent/platforms/hyperv/vhdx/parent_locator.h"

#include <map>
#include <utility>
#include <vector>

#include "services/agent/platforms/hyperv/vhdx/layout.h"
#include "services/agent/platforms/hyperv/vhdx/utf16.h"

namespace farside::agent::vhdx {
namespace {

const Guid kVhdxParent = *Guid::parse("b04aefb7-d19e-4a81-b789-25b8e9445913");
constexpr std::size_t kLocatorHeaderBytes = 20;
constexpr std::size_t kEntryBytes = 12;
constexpr std::size_t kTextBytesMax = 0xFFFE;

Result<std::string> text_in(std::string_view item, std::uint32_t at, std::uint16_t bytes) {
  if (at == 0 || bytes == 0 || !fits(at, bytes, item.size())) {
    return corrupt("parent locator: text of " + std::to_string(bytes) + " bytes at " +
                   std::to_string(at) + " of " + std::to_string(item.size()));
  }
  auto text = utf8_of(item.substr(at, bytes));
  if (!text) return corrupt("parent locator: text at " + std::to_string(at) + " is not UTF-16");
  return *std::move(text);
}

Result<Guid> guid_in(const std::string& text) {
  const auto guid = Guid::parse(text);
  if (!guid) return corrupt("parent locator: '" + text + "' is not a GUID");
  return *guid;
}

}  // namespace

Result<ParentLocator> parse_parent_locator(std::string_view item) {
  if (item.size() < kLocatorHeaderBytes) return corrupt("parent locator: too short");
  const Guid type = Guid::load(item, 0);
  if (type != kVhdxParent) {
    return unsupported("a differencing disk whose parent is of type " + type.text());
  }
  const std::size_t count = load<std::uint16_t>(item, 18);
  if (!fits(kLocatorHeaderBytes, count * kEntryBytes, item.size())) {
    return corrupt("parent locator: " + std::to_string(count) + " entries in " +
                   std::to_string(item.size()) + " bytes");
  }
  std::map<std::string, std::string> entries;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = kLocatorHeaderBytes + i * kEntryBytes;
    FARSIDE_ASSIGN(std::string key,
                   text_in(item, load<std::uint32_t>(item, at), load<std::uint16_t>(item, at + 8)));
    FARSIDE_ASSIGN(std::string value, text_in(item, load<std::uint32_t>(item, at + 4),
                                              load<std::uint16_t>(item, at + 10)));
    if (!entries.emplace(key, std::move(value)).second) {
      return corrupt("parent locator: '" + key + "' twice");
    }
  }
  ParentLocator locator;
  if (!entries.contains("parent_linkage")) return corrupt("parent locator: no parent_linkage");
  FARSIDE_ASSIGN(locator.linkage, guid_in(entries["parent_linkage"]));
  if (const auto second = entries.find("parent_linkage2"); second != entries.end()) {
    FARSIDE_ASSIGN(locator.linkage2, guid_in(second->second));
  }
  locator.relative_path = entries["relative_path"];
  locator.volume_path = entries["volume_path"];
  locator.absolute_win32_path = entries["absolute_win32_path"];
  if (locator.relative_path.empty() && locator.volume_path.empty() &&
      locator.absolute_win32_path.empty()) {
    return corrupt("parent locator: no path");
  }
  return locator;
}

Result<std::string> write_parent_locator(const ParentLocator& locator) {
  std::vector<std::pair<std::string, std::string>> entries{
      {"parent_linkage", "{" + locator.linkage.text() + "}"}};
  if (locator.linkage2)
    entries.emplace_back("parent_linkage2", "{" + locator.linkage2->text() + "}");
  const std::size_t without_paths = entries.size();
  if (!locator.relative_path.empty()) {
    entries.emplace_back("relative_path", locator.relative_path);
  }
  if (!locator.volume_path.empty()) entries.emplace_back("volume_path", locator.volume_path);
  if (!locator.absolute_win32_path.empty()) {
    entries.emplace_back("absolute_win32_path", locator.absolute_win32_path);
  }
  if (entries.size() == without_paths) {
    return fail(ErrorCode::kInvalidArgument, "a differencing disk without a path to its parent",
                "give the relative or the absolute path");
  }
  std::string item(kLocatorHeaderBytes + entries.size() * kEntryBytes, '\0');
  kVhdxParent.store(item, 0);
  store(item, 18, static_cast<std::uint16_t>(entries.size()));
  std::size_t at = kLocatorHeaderBytes;
  for (const auto& [key, value] : entries) {
    const auto key_text = utf16le_of(key);
    const auto value_text = utf16le_of(value);
    if (!key_text || !value_text || value_text->size() > kTextBytesMax) {
      return fail(ErrorCode::kInvalidArgument,
                  "the parent's " + key + " is not UTF-8, or is longer than 32,767 characters",
                  "give another path");
    }
    store(item, at, static_cast<std::uint32_t>(item.size()));
    store(item, at + 8, static_cast<std::uint16_t>(key_text->size()));
    item += *key_text;
    store(item, at + 4, static_cast<std::uint32_t>(item.size()));
    store(item, at + 10, static_cast<std::uint16_t>(value_text->size()));
    item += *value_text;
    at += kEntryBytes;
  }
  return item;
}

}  // namespace farside::agent::vhdx
