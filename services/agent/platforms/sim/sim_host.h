// A host that exists only in memory: its virtual machines, disks, bitmaps and networks, and what a
// test may do to it from outside.  It outlives the platforms opened on it, as a real host outlives
// its agent.  Deterministic: nothing happens but what is called.
//
// Thread: any; one lock guards everything, because platforms are called by worker threads.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "services/agent/platforms/platform.h"

namespace farside::agent::sim {

inline constexpr std::uint64_t kBlockBytes = 4096;

// Fills `to` with what an NBD view holds at `offset`.
using View = std::function<void(std::uint64_t offset, std::span<char> to)>;

// A disk image.  Blocks not in the map read as zeros, or from the view beneath.
struct Image {
  std::uint64_t bytes = 0;
  std::map<std::uint64_t, std::string> blocks;
  std::string view;  // "socket/export" of the view beneath; empty: none.
  // For each token, the blocks written since.
  std::map<std::string, std::set<std::uint64_t>> tokens{};
};

// The one point of a VM that may be open.
struct OpenPoint {
  std::uint64_t serial = 0;  // Tells the point from a later one of the same VM.
  std::string token;
  bool is_lost = false;
  struct Disk {
    std::string path;
    std::set<std::uint64_t> changed;
    bool is_incremental = false;
    // What later writes replaced: the frozen content of these blocks; nothing: they were not there.
    std::map<std::uint64_t, std::optional<std::string>> before;
  };
  std::map<std::string, Disk> disks;
};

struct Machine {
  msg::Vm shape;
  bool is_running = false;
  bool has_written = false;  // Since it was started.
  bool reacts_to_power_button = true;
  bool is_ours = false;
  bool is_fenced = false;
  std::optional<OpenPoint> point = std::nullopt;
};

class Host {
 public:
  Host(std::string name, const Clock& clock, std::vector<std::string> networks);

  // The operator's side.  Disks get empty images at their paths (made up where empty).
  void add_vm(const msg::Vm& shape, bool reacts_to_power_button = true);
  // Disks that are new get empty images; those that are larger grow.
  void change_vm(const std::string& vm_id, const std::function<void(msg::Vm&)>& change);
  std::optional<msg::Vm> find_vm(const std::string& vm_id) const;
  void serve(const std::string& nbd_socket, const std::string& nbd_export, View view);
  bool has_image(const std::string& path) const;
  std::string read_image(const std::string& path, std::uint64_t offset, std::uint64_t length) const;
  bool image_has_view(const std::string& path) const;

  std::uint64_t frozen_bytes_read() const;  // From points, ever.

  // The guest's side.  `bytes` are whole 4 KiB blocks.  False: it does not run.
  bool write(const std::string& vm_id, const std::string& disk, std::uint64_t offset,
             std::span<const char> bytes);
  // Called when a guest is asked to shut down, before it is off; it may still write.
  void on_shutdown(std::function<void(const std::string& vm_id)> last_words);

  // Faults.
  void lose_tracking(const std::string& vm_id);  // The hypervisor process dies and starts again.
  void lose_point(const std::string& vm_id);     // Scratch space runs out.
  // The next `times` calls of this name ("create_point") fail like this, having done nothing.
  void fail_next(const std::string& call, Error error, int times = 1);
  // VMs are detached from their views no further: each copy breaks and is begun anew.
  void break_copies(bool broken);

 private:
  friend class SimPlatform;
  friend class SimPoint;
  friend class SimDisk;

  void make_images(msg::Vm& shape);
  Machine* find(const std::string& vm_id);
  Image& image_of(const Machine& machine, const std::string& disk);
  std::string read_block(const Image& image, std::uint64_t block) const;
  std::string frozen_block(const OpenPoint::Disk& disk, std::uint64_t block) const;
  Status take_fault(const std::string& call);

  mutable std::mutex mutex_;
  std::string name_;
  const Clock& clock_;
  std::vector<std::string> networks_;
  std::map<std::string, Machine> machines_;
  std::map<std::string, Image> images_;
  std::map<std::string, View> views_;
  std::function<void(const std::string&)> last_words_;
  std::map<std::string, std::pair<Error, int>> faults_;
  bool copies_break_ = false;
  std::uint64_t serial_ = 0;
  std::uint64_t frozen_bytes_read_ = 0;
};

}  // namespace farside::agent::sim
