#include "services/provider/vmm/vmm_source.h"

#include <algorithm>

#include "services/provider/site.h"

namespace farside::provider::vmm {
namespace {

constexpr Micros kAfterFailure = std::chrono::seconds{30};

}  // namespace

Result<msg::SiteDefinition> VmmSource::read() {
  Mapping mapping;
  if (!site_file_.empty()) {
    FARSIDE_ASSIGN(const std::string text, text_of_site_file(site_file_));
    FARSIDE_ASSIGN(mapping, mapping_from_toml(text, site_file_));
  }
  if (!answers_ || clock_.monotonic() >= ask_again_) {
    answers_ = run_(scripts());
    ask_again_ = clock_.monotonic() + (*answers_ ? refresh_ : std::min(refresh_, kAfterFailure));
  }
  if (!*answers_) return fail(answers_->error());
  return site_from_answers(**answers_, mapping);
}

}  // namespace farside::provider::vmm
