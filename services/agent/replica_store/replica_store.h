// All replicas that an agent keeps for its peers: one folder each under a root.
//
// Owns: the root folder.  Thread: any.  An item that was removed answers kNotFound to whoever still
// holds it.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "services/agent/replica_store/ballast.h"
#include "services/agent/replica_store/item.h"

namespace farside::replica {

class ReplicaStore final {
 public:
  // Errors: kConflict (of another form), kForbidden, kNoSpace, kIo.
  static Result<std::unique_ptr<ReplicaStore>> open(std::string root, Limits limits = {});

  // Creates it if need be.  Errors: those of Item::open, kInvalidArgument (no name of a folder).
  Result<SharedItem> create(const std::string& item, const std::vector<msg::ReplicaDisk>& disks);
  // Errors: kNotFound.
  Result<SharedItem> find(const std::string& item);
  Result<std::vector<std::string>> list();

  // Erases the replica; removing what is not there is fine.  Errors: kConflict (a view is open).
  Status remove(const std::string& item);

  // Takes the room for emergencies again if it can.  Returns whether it is there.
  bool keep_ballast() const { return ballast_.restore(); }

  const std::string& root() const { return root_; }

 private:
  ReplicaStore(std::string root, Limits limits);

  std::string root_;
  Limits limits_;
  Ballast ballast_;
  std::mutex mutex_;
  std::map<std::string, SharedItem> items_;
};

}  // namespace farside::replica
