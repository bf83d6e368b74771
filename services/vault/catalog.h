// What the vault knows: configuration and read models, as tables and a few questions to them.
//
// Owns: columns "policy", "pair", "network_map", "storage_map", "item", "job", "inventory",
// "revoked_key".  Figures that agents
// report every second (`live`) stay in memory: they are news, and come again.
// Thread: the reactor's.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/schema/agent.plain.h"
#include "common/schema/vault.plain.h"
#include "common/store/table.h"

namespace farside::vault {

// How old the newest recovery point of an item is; see point_watch.h.  Times in microseconds.
struct Freshness {
  std::int64_t arrived_at = 0;
  std::int64_t interval = 0;  // Of its policy.
  std::int64_t allowed = 0;   // So old it may get.
  bool is_missed = false;     // It has got older.
};

// Why the job of an item waits for an operator.
struct Stuck {
  std::string job;
  msg::Fault fault;
};

struct Live {
  std::map<std::string, msg::ReplicationStatus> sources;  // By item.
  std::map<std::string, msg::ReplicaStatus> replicas;     // By item.
  std::map<std::string, bool> connected;                  // By principal.
  std::map<std::string, std::string> host_problems;       // By agent; those that have one.
  std::map<std::string, std::string> key_problems;        // By agent: why nobody gets its key.
  std::map<std::string, std::vector<msg::VmTrouble>> troubles;  // By agent.
  std::map<std::string, std::string> fences;     // By agent that has some: the VMs, in words.
  std::map<std::string, Stuck> stuck;            // By item.
  std::map<std::string, Freshness> points;       // By item; none without points.
  std::map<std::string, std::int64_t> heard_at;  // By site: its last inventory report.

  bool is_connected(const std::string& principal) const {
    const auto found = connected.find(principal);
    return found != connected.end() && found->second;
  }
};

class Catalog final {
 public:
  store::Table<msg::Policy> policies{"policy"};
  store::Table<msg::CloudPair> pairs{"pair"};
  store::Table<msg::NetworkMapping> mappings{"network_map"};
  store::Table<msg::StorageMapping> storage_mappings{"storage_map"};
  store::Table<msg::ProtectedItem> items{"item"};
  store::Table<msg::JobRecord> jobs{"job"};
  store::Table<msg::Inventory> inventories{"inventory"};
  store::Table<msg::RevokedKey> revoked{"revoked_key"};
  Live live;

  // All that was known of a site whose provider is trusted no more, and of its agents.
  void forget_site(store::Batch& batch, const std::string& site);

  // The rows of a table without their keys.
  template <class T>
  static Result<std::vector<T>> rows(const store::Table<T>& table, const store::Reader& store) {
    FARSIDE_ASSIGN(auto pairs, table.all(store));
    std::vector<T> out;
    for (auto& [key, row] : pairs) out.push_back(std::move(row));
    return out;
  }

  // Errors: kNotFound, in the operator's words.
  Result<msg::Inventory> site(const store::Reader& store, const std::string& name) const;
  Result<msg::Policy> policy(const store::Reader& store, const std::string& name) const;
  Result<msg::ProtectedItem> item_by_id(const store::Reader& store, const std::string& id) const;
  Result<std::optional<msg::ProtectedItem>> item_named(const store::Reader& store,
                                                       const std::string& site,
                                                       const std::string& cloud,
                                                       const std::string& name) const;
  // Whose failover made the VM, if that item is still there.
  Result<std::optional<msg::ProtectedItem>> item_that_made(const store::Reader& store,
                                                           const std::string& site,
                                                           const std::string& vm) const;
  Result<std::optional<msg::ProtectedItem>> item_of_vm(const store::Reader& store,
                                                       const std::string& site,
                                                       const std::string& vm) const;

  // A VM of a cloud and the agent of the host it is on.
  struct Found {
    msg::Vm vm;
    std::string agent;
    std::string host;
  };
  // Every VM of the cloud that is not a replica or a test VM of ours.
  static std::vector<Found> vms_of_cloud(const msg::Inventory& site, const std::string& cloud);

  // The storage class at the target that the class of the VM's first disk is mapped to; empty if
  // none is: any may be chosen.
  Result<std::string> target_storage(const store::Reader& store,
                                     const msg::ProtectedItem& item) const;

  // Everything a workflow needs to know of an item.
  Result<msg::ItemSpec> spec(const store::Reader& store, const msg::ProtectedItem& item) const;
};

const msg::Cloud* find_cloud(const msg::Inventory& site, const std::string& name);

// Errors: kInvalidArgument, with every value that is out of its range.
Status check(const msg::Policy& policy);

}  // namespace farside::vault
