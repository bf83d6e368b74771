// Where a provider learns what its site consists of.
#pragma once

#include "common/base/result.h"
#include "common/schema/control.plain.h"

namespace farside::provider {

class SiteSource {
 public:
  virtual ~SiteSource() = default;

  // May block.  Called every few seconds, by one thread at a time.
  // Errors: those of the source; the last good definition stays in force.
  virtual Result<msg::SiteDefinition> read() = 0;
};

}  // namespace farside::provider
