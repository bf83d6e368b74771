// The WMI objects of virtual machines that really run: how they are made, found and copied.
//
// Owns: nothing; `objects` and `random` outlive it.
#pragma once

#include <string>
#include <vector>

#include "common/base/random.h"
#include "tests/support/hvsim/objects.h"

namespace farside::hvsim {

struct VmShape {
  std::string guid;  // Upper case.
  std::string name;
  int generation = 2;
  std::uint64_t memory_mib = 128;
  std::uint64_t processors = 1;
};

struct AttachedDisk {
  Reference settings;  // Msvm_StorageAllocationSettingData.
  std::string path;    // HostResource: the file that is written.
};

class VmObjects final {
 public:
  using Properties = std::map<std::string, Value, std::less<>>;

  // `description`: that of every VM, in the host's language.
  VmObjects(Objects& objects, std::string host, std::string description, Random& random)
      : objects_(objects),
        host_(std::move(host)),
        description_(std::move(description)),
        random_(random) {}

  // A system that is off, its settings, processors, memory, and the IDE controllers of
  // generation 1.  Returns the settings.
  Instance& define(const VmShape& shape);
  void remove(const std::string& guid);

  Instance* system(const std::string& guid);
  Instance* settings(const std::string& id);  // By GUID of a VM or of a checkpoint.
  std::vector<std::string> guids();           // Of all VMs.
  bool is_realized(const Instance& settings) const;

  // The parts of settings; `class_name` may be empty.
  std::vector<Instance*> parts(const Instance& settings, const std::string& class_name);
  Instance* part(const Instance& settings, const std::string& class_name);  // The first.
  // The settings that a part is of, or null.
  Instance* settings_of(const Instance& part);
  Instance& add_part(const Instance& settings, const std::string& class_name, const std::string& id,
                     Properties properties);
  void remove_part(const Instance& part);  // And what hangs on it.

  // IDE before SCSI, then by slot: as the guest counts them.
  std::vector<AttachedDisk> disks(const Instance& settings);
  // "00:15:5D:00:00:01" each, in the order in which they were added.
  std::vector<std::string> macs(const Instance& settings);

  // The settings of a VM once more, as a checkpoint's, with all their parts.
  Instance& copy_as_checkpoint(const std::string& guid, const std::string& id);
  void remove_settings(const std::string& id);

  Value path_to(const Instance& instance) const;
  Instance* at_path(const std::string& wmi_path);  // Null: no such object, or no path.
  std::string new_guid() const;
  void set_state(const std::string& guid, std::uint16_t state);
  std::uint16_t state(const std::string& guid);
  Objects& objects() { return objects_; }
  const std::string& host() const { return host_; }

 private:
  Objects& objects_;
  const std::string host_;
  const std::string description_;
  Random& random_;
};

}  // namespace farside::hvsim
