// What the names of VM networks mean on this host: its virtual switches, and VLANs on them.
//
// Thread: any; does not change.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace farside::agent::hyperv {

struct Port {
  std::string switch_name;  // Empty: of no switch.
  std::uint32_t vlan = 0;   // 0: untagged.

  bool operator==(const Port&) const = default;
};

// Each network is written "switch:NAME", "switch:NAME,vlan:7" or "isolated" (no switch).
class Switches final {
 public:
  // Errors: kInvalidArgument (names the entry).
  static Result<Switches> from_options(const std::map<std::string, std::string>& options);

  // Those of the entries, and `switches` of the host, which need none.
  std::vector<std::string> names(const std::vector<std::string>& switches) const;
  // None for "".  Errors: kNotFound.
  Result<std::optional<Port>> port_of(const std::string& network,
                                      const std::vector<std::string>& switches) const;
  // Which network a port is on; "" if none of ours.
  std::string network_of(const Port& port) const;

 private:
  std::map<std::string, Port> networks_;
};

}  // namespace farside::agent::hyperv
