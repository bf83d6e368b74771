// Where a simulated host keeps its things, all below one folder:
//
//   files/C/VMs/a.vhdx   what is C:\VMs\a.vhdx to its clients; files/C is fit to be shared by SMB
//   serial/GUID.log      what a VM's guest said, boot after boot
//   state.json           virtual machines, checkpoints, reference points, what was written when
//   run/                 logs of programs, and sockets, of this run only
#pragma once

#include <string>

#include "common/base/result.h"

namespace farside::hvsim {

class HostFiles final {
 public:
  explicit HostFiles(std::string root) : root_(std::move(root)) {}

  // Makes the folders (those that are shared for anybody to write to), and forgets what an earlier
  // run left in run/.  Errors: kIo.
  Status prepare() const;

  // Errors: kInvalidArgument (not "X:\...", or it leads out of its drive).
  Result<std::string> file_of(const std::string& windows_path) const;

  // Makes the folder of a file, for anybody to write to.  Errors: kIo.
  static Status make_folder_of(const std::string& file);

  std::string shared() const { return root_ + "/files"; }
  std::string state() const { return root_ + "/state.json"; }
  std::string serial_of(const std::string& guid) const {
    return root_ + "/serial/" + guid + ".log";
  }
  std::string run() const { return root_ + "/run"; }

 private:
  std::string root_;
};

// Windows compares names without regard to case; ASCII is enough here.
std::string lower_case(std::string text);
std::string upper_case(std::string text);

}  // namespace farside::hvsim
