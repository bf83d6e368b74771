// A frozen disk of a point: VHDX files on the host, which nobody writes to, read over SMB.
//
// Owns: the files, and the connections that they are read over.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/wsman/disk_changes.h"
#include "services/agent/platforms/hyperv/shares.h"
#include "services/agent/platforms/hyperv/vhdx/chain.h"
#include "services/agent/platforms/hyperv/virtual_machine.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::hyperv {

class VhdxFrozenDisk final : public FrozenDisk {
 public:
  // `shares` outlives the disk.  Errors: those of Shares and of vhdx::Chain.
  static Result<std::unique_ptr<VhdxFrozenDisk>> open(Shares& shares, const VhdxDisk& disk);

  ~VhdxFrozenDisk() override;

  const std::string& name() const override { return name_; }
  const std::string& id() const override { return id_; }
  std::uint64_t bytes() const override { return chain_->disk_bytes(); }
  std::string disk_id();  // Of the file; lower case, without braces.
  void set_changes(std::vector<wsman::ChangedRange> changes) { changes_ = std::move(changes); }

  Result<std::vector<Extent>> changes() override;
  Result<std::vector<Extent>> allocated() override;
  Status read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) override;
  Status poll(int timeout_ms) override;

 private:
  // Of one file of the chain.
  struct Source {
    Shares::Lease* share = nullptr;
    smb::FileId file;
  };
  // The bytes of a read may lie apart in files, and arrive one by one.
  struct Read {
    Done done;
    std::size_t waiting = 0;  // Parts that are under way.
    Status status;
  };

  VhdxFrozenDisk() = default;
  Result<Shares::Lease*> lease(const std::string& share);
  Result<std::unique_ptr<ByteFile>> open_file(const std::string& path);
  // Where it says it is relative to the child, or else where it was when the child was made.
  Result<std::unique_ptr<ByteFile>> open_parent(const vhdx::ParentLocator& locator);
  Result<Source*> source(std::size_t number);

  Shares* shares_ = nullptr;
  std::string name_;
  std::string id_;
  std::map<std::string, Shares::Lease> leases_;  // By share.  Everything below reads over these.
  std::vector<std::string> paths_;               // Of the chain's files; 0: the top.
  std::unique_ptr<vhdx::Chain> chain_;
  std::optional<std::vector<wsman::ChangedRange>> changes_;
  std::map<std::size_t, Source> sources_;
  std::list<Read> reads_;                            // Not told of yet,
  std::vector<std::list<Read>::iterator> finished_;  // though these have all their bytes.
};

}  // namespace farside::agent::hyperv
