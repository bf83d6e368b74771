// What the first bytes of a qcow2 image say about it.  Read only, without QEMU, so that asking
// never disturbs a guest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace farside::agent::libvirt {

// Source: QEMU, docs/interop/qcow2.txt, "Header".
struct Qcow2Header {
  std::uint32_t version = 0;  // 2: compat 0.10; 3: compat 1.1.
  std::uint64_t bytes = 0;    // Of the disk.
  bool is_encrypted = false;
  bool is_corrupt = false;
  bool has_data_file = false;  // Its blocks lie in another file.
  bool has_subclusters = false;
  std::uint32_t cluster_bits = 0;
  std::uint64_t l1_at = 0;       // Where its first table of blocks lies,
  std::uint32_t l1_entries = 0;  // and how long that is.
  std::string backing;           // As written in it; empty: none.
  std::string backing_format;    // Empty: not written.
};

inline constexpr std::size_t kQcow2HeaderBytes = 4096;  // More than any header has that we want.

// `head`: the first bytes of the file, up to kQcow2HeaderBytes.  Errors: kUnsupported (not qcow2),
// kCorrupt.
Result<Qcow2Header> parse_qcow2_header(std::string_view head);

// Errors: kNotFound, kForbidden, kIo, and those above.
Result<Qcow2Header> read_qcow2_header(const std::string& path);

}  // namespace farside::agent::libvirt
