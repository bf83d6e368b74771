// Writes a domain of this host from a foreign description, element by element, by the rules of
// rules.h.  One use.
#pragma once

#include <map>
#include <set>
#include <string>

#include "services/agent/platforms/libvirt/rules.h"
#include "services/agent/platforms/libvirt/transform.h"

namespace farside::agent::libvirt {

class DomainWriter {
 public:
  // All of them outlive it.
  DomainWriter(const NewVm& vm, const Networks& networks, const TargetHost& host)
      : vm_(vm), networks_(networks), host_(host) {}

  // Errors: see make_domain().
  Result<TargetDomain> write(const XmlNode& domain);

 private:
  // Append to `out` what becomes of `node`, which is at `path` below <domain>.
  Status element(const XmlNode& node, const std::string& path, std::string& out);
  Status inside(const XmlNode& node, const std::string& path, std::string& out);
  Status copy(const XmlNode& node, const std::string& path, const Rule& rule, std::string& out);
  Status make(const XmlNode& node, const std::string& path, std::string& out);

  Status make_os(const XmlNode& os, std::string& out);
  Status make_features(const XmlNode& features, std::string& out);
  Status make_cpu(const XmlNode& cpu, std::string& out);
  void make_action(const XmlNode& action, std::string& out);
  void make_metadata(const XmlNode& metadata, std::string& out);
  bool needs_kvm(const XmlNode& node, const std::string& path) const;

  // device_writer.cpp
  Status make_devices(const XmlNode& devices, std::string& out);
  Status make_device(const XmlNode& node, const std::string& path, std::string& out);
  Status make_disk(const XmlNode& disk, std::string& out);
  Status make_removable(const XmlNode& disk, const std::string& device, std::string& out);
  Status make_card(const XmlNode& card, std::string& out);
  Status make_port(const XmlNode& port, const std::string& path, std::string& out);
  Status make_channel(const XmlNode& channel, std::string& out);
  void make_graphics(const XmlNode& graphics, std::string& out);
  Status make_missing_devices(std::string& out);
  void match_disks(const XmlNode& devices);
  Result<std::string> disk_target(const XmlNode& disk);

  void row(msg::PlanRow row);
  void kept(std::string what, const std::string& value);
  void mapped(std::string what, std::string source, std::string target, std::string note);
  void dropped(std::string what, std::string source, std::string note);

  const NewVm& vm_;
  const Networks& networks_;
  const TargetHost& host_;
  TargetDomain result_;
  bool needs_smm_ = false;
  std::string arch_;
  std::map<std::string, const NewDisk*> disk_of_;  // By the target name in the description.
  std::set<const NewDisk*> disks_made_;
  std::set<std::string> targets_;
  std::set<std::string> cards_made_;  // By address.
  int serial_ports_ = 0;
};

// What an operator recognises an element by: its text, or its attributes.
std::string summary(const XmlNode& node);

std::string attribute_xml(std::string_view name, std::string_view value);

}  // namespace farside::agent::libvirt
