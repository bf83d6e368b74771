// A site's definition from its TOML file: clouds, host groups, VM networks, storage classes.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/schema/control.plain.h"
#include "services/provider/site_source.h"

namespace farside::provider {

// Errors: kInvalidArgument with every mistake found: unknown keys, names used twice, a cloud whose
// host group or network is not defined, an address range that is not one.
Result<msg::SiteDefinition> site_from_toml(std::string_view text, const std::string& name);

// Errors: kNotFound.
Result<std::string> text_of_site_file(const std::string& path);

class SiteFile final : public SiteSource {
 public:
  explicit SiteFile(std::string path) : path_(std::move(path)) {}
  // Also: kNotFound.
  Result<msg::SiteDefinition> read() override;

 private:
  std::string path_;
};

}  // namespace farside::provider
