// The room that hosts have in their site's inventory, which is one frame: no host silences its site
// by what it tells.
//
// Owns: how large each host's entry is, encoded.  Thread: one.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "common/base/result.h"
#include "common/schema/envelope.plain.h"

namespace farside::provider {

inline constexpr std::size_t kReportMax = 1U << 20U;     // Of one host; some 2,000 VMs.
inline constexpr std::size_t kInventoryMax = 6U << 20U;  // Of all; a frame has 8 MiB.

class ReportRoom final {
 public:
  // Notes the entry's size.  Errors: kTooLarge; then what was noted before stands.
  Status take(const msg::HostEntry& entry);

  // As taken last; 0: nothing was.
  std::size_t bytes_of(const std::string& principal) const;

  // Leaves out what the largest hosts told until the others fit; each says so as its problem.
  void fit(msg::Inventory& inventory);

 private:
  std::map<std::string, std::size_t> bytes_;  // By principal.
};

}  // namespace farside::provider
