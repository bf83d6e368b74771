// A site's definition from what Virtual Machine Manager's scripts said.  Pure text in.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/schema/control.plain.h"

namespace farside::provider::vmm {

using Answers = std::map<std::string, std::string>;  // JSON by the script's name.

// What VMM does not know, from the site file.
struct Mapping {
  std::map<std::string, std::string> host_networks;  // Of a VM network: its name on the hosts.
  std::map<std::string, std::string> storage_paths;  // Of a storage classification, on the hosts.
};

// [[network]] with name and host_network, [[storage_class]] with name and path; nothing else.
// Errors: kInvalidArgument with every mistake found.
Result<Mapping> mapping_from_toml(std::string_view text, const std::string& name);

// Host groups are named by their paths ("All Hosts\Rack 1") and hold the hosts of those below
// them.  A VM network is in all clouds that have its logical network; on the hosts it has the name
// that is mapped, else that of its logical network.  Only classifications with a mapped path are
// storage classes.  A pool joins the subnet with its range, or is one where there is none.
// Errors: kCorrupt (an answer is missing, no JSON, or has not the fields it should), and
// kInvalidArgument for what cannot be right together; each with every mistake found.
Result<msg::SiteDefinition> site_from_answers(const Answers& answers, const Mapping& mapping);

}  // namespace farside::provider::vmm
