#include "services/agent/platforms/hyperv/vhdx/crc32c.h"

namespace farside::agent::vhdx {

std::uint32_t checksum_without(std::string_view bytes, std::size_t field) {
  return Crc32c()
      .add(bytes.substr(0, field))
      .add(std::string_view("\0\0\0\0", 4))
      .add(bytes.substr(field + 4))
      .value();
}

}  // namespace farside::agent::vhdx
