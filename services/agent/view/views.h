// Opens and closes views of recovery points, and keeps those alive that should be.
//
// Owns: nothing in memory; what is open is what the items have pins for, so that a restarted agent
// knows as much as before.  Thread: any, one at a time per item.
#pragma once

#include <functional>
#include <string>

#include "common/base/result.h"
#include "services/agent/replica_store/replica_store.h"
#include "services/agent/view/view_process.h"

namespace farside::replica {

struct OpenView {
  std::string socket;  // NBD; the export name is the disk's.  Empty: not served.
  std::uint64_t seq = 0;
};

class Views final {
 public:
  // `run_folder` takes the sockets; keep its path short.  `plugin`: path of farside_view.so; empty:
  // next to this program, or where the package puts it.  Where hosts read their own storage only,
  // nothing is `served`: a view is its pin then, and no process.  `share` is told of each socket
  // that was made, so that the hypervisor may use it.
  using Share = std::function<Status(const std::string& socket)>;
  Views(std::string run_folder, std::string plugin, bool served = true, Share share = {});

  // Pins the point and serves it.  `view` names the use ("test", "failover"); repeating the call
  // with the same arguments succeeds with the same socket.  Errors: kNotFound (no such point),
  // kConflict (the view is open at another point), those of ViewProcess::start().
  Result<OpenView> open(Item& item, const std::string& view, std::uint64_t seq);

  // Stops serving, drops the pin.  Closing what is not open is fine.
  Status close(Item& item, const std::string& view);

  // Starts again what died, for all pins of the item.  Returns how many had to be.
  Result<int> revive(Item& item);

  // What the process of a view said last of a read that failed; empty: of none.
  std::string last_error(const Item& item, const std::string& view) const;

  bool is_alive(Item& item, const std::string& view) const;
  std::string socket_of(const Item& item, const std::string& view) const;

 private:
  ViewProcess process(const Item& item, const std::string& view, std::uint64_t seq) const;
  Status start(const Item& item, const std::string& view, std::uint64_t seq) const;

  std::string run_folder_;
  std::string plugin_;
  bool served_;
  Share share_;
};

}  // namespace farside::replica
