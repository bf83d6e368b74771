// Files of a host by the paths that the host itself uses: which share shows them, and connections
// to those.
//
// Owns: connections that nobody uses.  Thread: any.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "services/agent/platforms/hyperv/pool.h"
#include "services/agent/platforms/hyperv/shared_folders.h"
#include "services/agent/platforms/hyperv/smb/share.h"

namespace farside::agent::hyperv {

class Shares final {
 public:
  using Lease = Pool<smb::Share>::Lease;

  // `login` without a share's name.
  Shares(SharedFolders folders, smb::ShareOptions login)
      : folders_(std::move(folders)), login_(std::move(login)) {}

  Result<SharePath> locate(std::string_view path) const { return folders_.locate(path); }
  // Errors: kUnavailable (farside-smb cannot be started), kNotFound (no such share).
  Result<Lease> take(const std::string& share);

  // An open file with a connection of its own.
  Result<std::unique_ptr<ByteFile>> open(const std::string& path, smb::Access access);

  // What is done with one connection.  Errors: kNotFound, those of Share.
  Status make_folders(const std::string& path);
  Status rename(const std::string& from, const std::string& to);  // Within one share.
  Status remove(const std::string& path);                         // Gone already is fine.
  Status remove_tree(const std::string& path);                    // Likewise.
  Result<bool> exists(const std::string& path);
  Result<smb::Space> space(const std::string& path);
  Result<std::vector<smb::Entry>> list(const std::string& path);  // No such folder: none.
  // Afterwards it holds all of the text; after a crash there may be a `path`.new.
  Status write_small(const std::string& path, const std::string& text);
  Result<std::string> read_small(const std::string& path);  // Of at most 64 KiB.

 private:
  SharedFolders folders_;
  smb::ShareOptions login_;
  std::mutex mutex_;                                                // Of the map only.
  std::map<std::string, std::unique_ptr<Pool<smb::Share>>> pools_;  // By share.
};

}  // namespace farside::agent::hyperv
