// One frozen disk, read over NBD from the QEMU that runs the guest, or from an image server.
//
// Owns: up to two connections to the export.  Thread: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "services/agent/platforms/platform.h"

struct nbd_handle;

namespace farside::agent::libvirt {

struct NbdExport {
  std::string socket;  // Path of the Unix socket.
  std::string name;    // "vda": of the export and of the disk.
  std::string id;      // See msg::Disk::id.
  std::string bitmap;  // Of what changed, which the export offers; empty: none.
};

class NbdDisk final : public FrozenDisk {
 public:
  // Errors: kUnavailable.
  static Result<std::unique_ptr<NbdDisk>> connect(NbdExport from);
  ~NbdDisk() override;

  // The ranges of [from, to) that may hold anything but zeros, in order.  Errors: kIo,
  // kUnavailable.
  Result<std::vector<Extent>> non_zero(std::uint64_t from, std::uint64_t to);

  // The other side has ended the connection, for good.
  bool is_closed() const;

  const std::string& name() const override { return from_.name; }
  const std::string& id() const override { return from_.id; }
  std::uint64_t bytes() const override { return bytes_; }
  Result<std::vector<Extent>> changes() override;
  Result<std::vector<Extent>> allocated() override;
  Status read_async(std::uint64_t offset, std::uint64_t length, char* to, Done done) override;
  Status poll(int timeout_ms) override;

 private:
  struct Close {
    void operator()(nbd_handle* handle) const;
  };
  using Handle = std::unique_ptr<nbd_handle, Close>;
  struct Read;  // One that is under way.
  struct Finished {
    Done done;
    Status status;
  };

  explicit NbdDisk(NbdExport from) : from_(std::move(from)) {}
  static Result<Handle> open(const NbdExport& from, const std::string& context);
  static int finished(void* read, int* error);

  // The ranges of [from, to) with flags that `is_wanted`.
  Result<std::vector<Extent>> query(nbd_handle* handle, const std::string& context,
                                    std::uint64_t from, std::uint64_t to,
                                    bool (*is_wanted)(std::uint32_t flags));

  NbdExport from_;
  std::string bitmap_;  // Meta context; empty without one.
  std::uint64_t bytes_ = 0;
  // The map of what is allocated is asked for on a connection of its own: one block status request
  // answers for all contexts of its connection, and walking the allocation of a whole big disk
  // only to learn that a few blocks changed would take long.
  Handle allocation_;
  std::size_t under_way_ = 0;
  std::vector<Finished> finished_;
  Handle data_;  // Last: closing it ends the reads, which count down what is above.
};

}  // namespace farside::agent::libvirt
