#include "services/agent/platforms/libvirt/life.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>

#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/xml.h"

namespace farside::agent::libvirt {
namespace {

// Of any card that this host knows an address of.
std::string known_address(virDomainPtr domain) {
  std::string found;
  for (const unsigned source : {unsigned{VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE},
                                unsigned{VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP}}) {
    virDomainInterfacePtr* cards = nullptr;
    const int count = virDomainInterfaceAddresses(domain, &cards, source, 0);
    for (int i = 0; i < count; ++i) {
      if (found.empty() && cards[i]->naddrs > 0) found = cards[i]->addrs[0].addr;
      virDomainInterfaceFree(cards[i]);
    }
    std::free(static_cast<void*>(cards));
  }
  return found;
}

// A lease may be left of an earlier life, so the guest must have sent something in this one.
bool has_sent(virDomainPtr domain, const DomainShape& shape) {
  for (const msg::Nic& nic : shape.vm.nics) {
    virDomainInterfaceStatsStruct stats{};
    if (virDomainInterfaceStats(domain, nic.mac.c_str(), &stats, sizeof stats) == 0 &&
        stats.rx_packets > 0) {  // As the host sees it.
      return true;
    }
  }
  return false;
}

// Then its firmware asks for an address before anything of the guest runs.
bool boots_from_network(virDomainPtr domain) {
  const std::string xml = take_text(virDomainGetXMLDesc(domain, 0));
  const auto document = XmlDocument::parse(xml);
  if (!document) return true;
  const XmlNode root = document->root();
  const auto devices = root.child("os").children("boot");
  if (std::ranges::any_of(devices,
                          [](const XmlNode& each) { return each.attribute("dev") == "network"; })) {
    return true;
  }
  const auto cards = root.child("devices").children("interface");
  return std::ranges::any_of(cards, [](const XmlNode& each) { return bool(each.child("boot")); });
}

}  // namespace

Result<std::string> sign_of_life(virDomainPtr domain, const DomainShape& shape) {
  int state = 0;
  if (virDomainGetState(domain, &state, nullptr, 0) != 0) return libvirt_error("state of a VM");
  if (state != VIR_DOMAIN_RUNNING && state != VIR_DOMAIN_BLOCKED) {
    return fail(ErrorCode::kConflict, fmt::format("VM '{}' does not run", shape.vm.name),
                "start it, or look at its console for why it stopped");
  }
  if (shape.has_guest_agent) return std::string("its guest agent answers");
  for (const DiskShape& disk : shape.disks) {
    if (!disk.is_writable_disk) continue;
    virDomainBlockStatsStruct stats{};
    if (virDomainBlockStats(domain, disk.name.c_str(), &stats, sizeof stats) == 0 &&
        stats.wr_req > 0) {
      return fmt::format("its guest writes to disk {}", disk.name);
    }
  }
  if (!boots_from_network(domain) && has_sent(domain, shape)) {
    const std::string address = known_address(domain);
    if (!address.empty()) return fmt::format("it has the address {}", address);
  }
  return std::string();
}

}  // namespace farside::agent::libvirt
