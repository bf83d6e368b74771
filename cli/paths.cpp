#include "cli/paths.h"

namespace farside::cli {

std::string encoded(std::string_view segment) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
  std::string out;
  for (const char c : segment) {
    if (kPlain.contains(c)) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kDigits[byte >> 4U];
      out += kDigits[byte & 0xfU];
    }
  }
  return out;
}

Paths::Paths(const Settings& settings)
    : vault_("/subscriptions/" + encoded(settings.subscription) + "/resourceGroups/" +
             encoded(settings.group) + "/providers/Microsoft.RecoveryServices/vaults/" +
             encoded(settings.vault)) {}

std::string Paths::under(std::string_view collection) const {
  return vault_ + "/" + std::string(collection);
}

std::string Paths::under(std::string_view collection, std::string_view name) const {
  return under(collection) + "/" + encoded(name);
}

std::string Paths::cloud(std::string_view site_name, std::string_view cloud_name) const {
  return site(site_name) + "/replicationProtectionContainers/" + encoded(cloud_name);
}

std::string Paths::network(std::string_view site_name, std::string_view network_name) const {
  return site(site_name) + "/replicationNetworks/" + encoded(network_name);
}

std::string Paths::pair(std::string_view site_name, std::string_view cloud_name,
                        std::string_view name) const {
  return cloud(site_name, cloud_name) + "/replicationProtectionContainerMappings/" + encoded(name);
}

std::string Paths::mapping(std::string_view site_name, std::string_view network_name,
                           std::string_view name) const {
  return network(site_name, network_name) + "/replicationNetworkMappings/" + encoded(name);
}

std::string Paths::storage(std::string_view site_name, std::string_view storage_class) const {
  return site(site_name) + "/replicationStorageClassifications/" + encoded(storage_class);
}

std::string Paths::storage_mapping(std::string_view site_name, std::string_view storage_class,
                                   std::string_view name) const {
  return storage(site_name, storage_class) + "/replicationStorageClassificationMappings/" +
         encoded(name);
}

std::string Paths::item(std::string_view site_name, std::string_view cloud_name,
                        std::string_view name) const {
  return cloud(site_name, cloud_name) + "/replicationProtectedItems/" + encoded(name);
}

}  // namespace farside::cli
