// What the names of VM networks mean on this host.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "services/agent/platforms/libvirt/xml.h"

namespace farside::agent::libvirt {

// Each network is written "bridge:NAME" (a bridge of the host), "network:NAME" (a network of
// libvirt), "user" (QEMU's own address translation; needs no rights) or "isolated" (no link).
class Networks {
 public:
  // Errors: kInvalidArgument (names the entry).
  static Result<Networks> from_options(const std::map<std::string, std::string>& options);

  // libvirt's own networks need no entry; ours win where names collide.
  void add_libvirt_network(const std::string& name);

  std::vector<std::string> names() const;

  // How a card is connected.  "" is a card without a link.  Errors: kNotFound.
  struct Link {
    std::string type;    // Of the <interface> element,
    std::string source;  // with this <source> element, or none.
    bool is_up = false;
  };
  Result<Link> link(const std::string& network) const;

  // The <interface> element of a card.  "" is a card without a link.  Errors: kNotFound.
  Result<std::string> card_xml(const std::string& network, const std::string& mac) const;

  // Which network an <interface> element is on; "" if none of ours.
  std::string network_of(const XmlNode& card) const;

 private:
  std::map<std::string, std::string> networks_;
};

}  // namespace farside::agent::libvirt
