// Devices that clients add to a virtual machine's settings: whether they are in order, and the
// objects they become.
//
// Owns: nothing.
#pragma once

#include "tests/support/hvsim/host_files.h"
#include "tests/support/hvsim/vm_objects.h"

namespace farside::hvsim {

// ResourceType of what may be added.
inline constexpr std::uint64_t kIdeController = 5;
inline constexpr std::uint64_t kScsiController = 6;
inline constexpr std::uint64_t kNetworkCard = 10;
inline constexpr std::uint64_t kDiskDrive = 17;
inline constexpr std::uint64_t kHardDisk = 31;
inline constexpr std::uint64_t kNetworkConnection = 33;

class DeviceBuilder final {
 public:
  // Both outlive it.
  DeviceBuilder(VmObjects& objects, const HostFiles& files) : objects_(objects), files_(files) {}

  // To the settings of a VM.
  // Errors: kInvalidArgument (what real hosts call an invalid parameter), kNotFound (the disk's
  // file or the switch), kCorrupt (no VHDX).
  Result<Reference> add(const Instance& settings, const Instance& device);

  // Whether new values for a device's properties are in order; completes them.
  Status check_connection(Instance& connection);
  Status check_disk_file(const Instance& disk) const;

 private:
  Result<Reference> add_controller(const Instance& settings, Instance device);
  Result<Reference> add_drive(const Instance& settings, Instance device);
  Result<Reference> add_disk(const Instance& settings, Instance device);
  Result<Reference> add_card(const Instance& settings, Instance device);
  Result<Reference> add_connection(const Instance& settings, Instance device);
  // The part of these settings that a device names as its parent, if it is of one of these types.
  Result<const Instance*> parent_of(const Instance& settings, Instance& device,
                                    std::initializer_list<std::uint64_t> types);
  std::vector<const Instance*> children_of(const Instance& settings, const Instance& parent);
  Reference put(const Instance& settings, Instance device, const std::string& id);

  VmObjects& objects_;
  const HostFiles& files_;
};

}  // namespace farside::hvsim
