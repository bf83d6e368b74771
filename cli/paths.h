// Every REST path the command uses, in one place.
#pragma once

#include <string>
#include <string_view>

#include "cli/settings.h"

namespace farside::cli {

inline constexpr std::string_view kApiVersion = "2023-06-01";

std::string encoded(std::string_view segment);

class Paths final {
 public:
  explicit Paths(const Settings& settings);

  const std::string& vault() const { return vault_; }
  std::string under(std::string_view collection) const;  // "{V}/replicationJobs"
  std::string under(std::string_view collection, std::string_view name) const;

  std::string site(std::string_view site) const { return under("replicationFabrics", site); }
  std::string cloud(std::string_view site, std::string_view cloud) const;
  std::string network(std::string_view site, std::string_view network) const;
  std::string policy(std::string_view name) const { return under("replicationPolicies", name); }
  std::string job(std::string_view name) const { return under("replicationJobs", name); }
  std::string pair(std::string_view site, std::string_view cloud, std::string_view name) const;
  std::string mapping(std::string_view site, std::string_view network, std::string_view name) const;
  std::string storage(std::string_view site, std::string_view storage_class) const;
  std::string storage_mapping(std::string_view site, std::string_view storage_class,
                              std::string_view name) const;
  std::string item(std::string_view site, std::string_view cloud, std::string_view name) const;

  // What the original does not have.
  std::string keys() const { return under("farside/registrationKeys"); }
  std::string key(std::string_view name) const { return under("farside/registrationKeys", name); }
  std::string identities() const { return under("farside/identities"); }
  std::string identity(std::string_view principal) const {
    return under("farside/identities", principal);
  }
  std::string hosts() const { return under("farside/hosts"); }
  std::string farside_policy(std::string_view name) const {
    return under("farside/policies", name);
  }

 private:
  std::string vault_;
};

}  // namespace farside::cli
