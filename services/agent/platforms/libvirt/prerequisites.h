// Whether the images of a VM can be replicated at all: asked of the files, never of QEMU.
//
// Owns: what it has read of image headers, by file and time of change.  Thread: any.
#pragma once

#include <libvirt/libvirt.h>
#include <sys/stat.h>

#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "services/agent/platforms/libvirt/domain_xml.h"
#include "services/agent/platforms/libvirt/qcow2_header.h"

namespace farside::agent::libvirt {

class Prerequisites {
 public:
  // Adds to `shape` what speaks against its protection, all of it, each with its cure; and the
  // sizes of its disks, where their headers can be read.
  void check(virDomainPtr domain, DomainShape& shape);

 private:
  using Key = std::tuple<dev_t, ino_t, std::int64_t, std::int64_t>;

  Result<Qcow2Header> header_of(const std::string& path);
  // "" or what is wrong with an image or those it stands on.
  std::string problem_of(const std::string& path, const Qcow2Header& header, int depth);

  std::mutex mutex_;
  std::map<Key, Qcow2Header> headers_;
};

// Who has an image open such that it cannot be written here: "qemu-nbd (process 123)"; empty:
// nobody.  Programs that this process has started do not count.
std::string lock_holder(const std::string& path);

}  // namespace farside::agent::libvirt
