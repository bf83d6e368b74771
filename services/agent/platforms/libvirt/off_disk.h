// One disk of a VM that is off.
//
// Owns: the process that serves its image, if anything is read from it.  Thread: one at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "services/agent/platforms/libvirt/image_server.h"
#include "services/agent/platforms/libvirt/nbd_disk.h"

namespace farside::agent::libvirt {

class OffDisk final : public FrozenDisk {
 public:
  struct What {
    std::string name;
    std::string id;
    std::uint64_t bytes = 0;
    std::string path;
    std::string socket;  // For the server, if one is needed.
    std::string bitmap;  // Of what changed; empty: everything did.
    bool is_unchanged = false;
  };
  explicit OffDisk(What what) : what_(std::move(what)) {}

  // Before it is needed, to learn whether the image can be read.  Errors: kTrackingLost (it can,
  // without its bitmap), kPlatform, kUnavailable.
  Status open();

  const std::string& name() const override { return what_.name; }
  const std::string& id() const override { return what_.id; }
  std::uint64_t bytes() const override { return what_.bytes; }
  Result<std::vector<Extent>> changes() override;
  Result<std::vector<Extent>> allocated() override;
  Status read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) override;
  Status poll(int timeout_ms) override;

 private:
  Status serve(const std::string& bitmap);

  const What what_;
  std::unique_ptr<ImageServer> server_;
  std::unique_ptr<NbdDisk> disk_;  // Last: it is the client.
};

}  // namespace farside::agent::libvirt
