// How a differencing VHDX file tells of its parent: by what was last written to it, and by paths.
//
// Source: [MS-VHDX] 2.6.2.6.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "services/agent/platforms/hyperv/vhdx/guid.h"

namespace farside::agent::vhdx {

// At least one of the paths is there.
struct ParentLocator {
  Guid linkage;                     // The parent's Header::data_write when the child was made.
  std::optional<Guid> linkage2;     // Another that will do: the parent was about to change.
  std::string relative_path;        // From the child's folder, "..\\base.vhdx".
  std::string volume_path;          // "\\\\?\\Volume{...}\\disks\\base.vhdx"
  std::string absolute_win32_path;  // "\\\\?\\C:\\disks\\base.vhdx"

  bool accepts(const Guid& data_write) const {
    return data_write == linkage || (linkage2 && data_write == *linkage2);
  }
  bool operator==(const ParentLocator&) const = default;
};

// Errors: kCorrupt, kUnsupported (a parent that is not a VHDX file).
Result<ParentLocator> parse_parent_locator(std::string_view item);
// Errors: kInvalidArgument (no path, text that is not UTF-8, or too long).
Result<std::string> write_parent_locator(const ParentLocator& locator);

}  // namespace farside::agent::vhdx
