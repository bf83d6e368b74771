// A site as a Virtual Machine Manager server knows it, asked anew after a while.
//
// Owns: the last answer.  Thread: one at a time.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "common/base/clock.h"
#include "services/provider/site_source.h"
#include "services/provider/vmm/scripts.h"
#include "services/provider/vmm/site.h"

namespace farside::provider::vmm {

// Runs scripts on the VMM server: what each wrote.
using RunScripts = std::function<Result<Answers>(std::span<const Script>)>;

class VmmSource final : public SiteSource {
 public:
  // `site_file`: its mapping is read each time; empty: none.  `clock` outlives this.
  VmmSource(RunScripts run, std::string site_file, Micros refresh, const Clock& clock)
      : run_(std::move(run)), site_file_(std::move(site_file)), refresh_(refresh), clock_(clock) {}

  // Between two refreshes, what was said last; after a failure the server is asked again sooner.
  // Errors: those of the server, of the mapping and of site_from_answers().
  Result<msg::SiteDefinition> read() override;

 private:
  RunScripts run_;
  std::string site_file_;
  Micros refresh_;
  const Clock& clock_;
  std::optional<Result<Answers>> answers_;
  Micros ask_again_{0};
};

}  // namespace farside::provider::vmm
