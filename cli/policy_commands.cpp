// What an operator decides once: policies, pairs of clouds, pairs of networks.
#include <fmt/format.h>

#include <optional>

#include "cli/commands.h"
#include "cli/format.h"

namespace farside::cli {
namespace {

// What is not given stays as it is, or as it is by default.
struct NewPolicy {
  std::string name;
  std::optional<int> every_seconds;
  std::optional<int> keep_hours;
  std::optional<int> app_consistent_hours;
  std::optional<bool> compression;
  std::optional<int> port;
  std::optional<bool> delete_replica;
  std::optional<int> every_point_hours;
  std::optional<int> bandwidth_kbps;
  std::optional<int> journal_gib_max;
  std::optional<int> floor_hours;
  std::optional<int> keep_after_commit;
};

Status create_policy(Session& session, const NewPolicy& wanted) {
  Json settings{{"instanceType", "HyperVReplica2012R2"},
                {"initialReplicationMethod", "OverNetwork"},
                {"onlineReplicationStartTime", ""},
                {"allowedAuthenticationType", 2}};
  const auto set = [&](const char* name, const std::optional<int>& value) {
    if (value) settings[name] = *value;
  };
  set("replicationFrequencyInSeconds", wanted.every_seconds);
  set("recoveryPoints", wanted.keep_hours);
  set("applicationConsistentSnapshotFrequencyInHours", wanted.app_consistent_hours);
  set("replicationPort", wanted.port);
  if (wanted.compression) settings["compression"] = *wanted.compression ? "Enable" : "Disable";
  if (wanted.delete_replica) {
    settings["replicaDeletion"] = *wanted.delete_replica ? "Required" : "NotRequired";
  }
  const std::string done = "policy '" + wanted.name + "' is there";
  Json body;
  body["properties"]["providerSpecificInput"] = settings;
  const auto created = session.vault.send("PUT", session.paths.policy(wanted.name), body);
  Json more = Json::object();
  if (wanted.every_point_hours) more["everyPointHours"] = *wanted.every_point_hours;
  if (wanted.bandwidth_kbps) more["bandwidthKbps"] = *wanted.bandwidth_kbps;
  if (wanted.journal_gib_max) more["journalGibMax"] = *wanted.journal_gib_max;
  if (wanted.floor_hours) more["floorHours"] = *wanted.floor_hours;
  if (wanted.keep_after_commit) more["keepAfterCommitHours"] = *wanted.keep_after_commit;
  if (!created || more.empty()) return session.finish(created, done);
  if (!created->job.empty()) {
    FARSIDE_ASSIGN(const Json job, wait_for_job(session.vault, session.paths, created->job,
                                                session.screen, session.clock, /*quiet=*/true));
    if (!has_succeeded(job)) return fail(error_of_job(job));
  }
  return session.finish(
      session.vault.send("PUT", session.paths.farside_policy(wanted.name), {{"properties", more}}),
      done);
}

std::vector<std::string> policy_row(const Json& policy) {
  const Json& details = at(policy, "properties.providerSpecificDetails");
  const std::string app = text(details, "applicationConsistentSnapshotFrequencyInHours");
  const double bandwidth = number(policy, "properties.farside.bandwidthKbps");
  return {text(policy, "name"),
          text(details, "replicationFrequencyInSeconds") + " s",
          text(details, "recoveryPoints") + " h",
          app == "0" ? "never" : "every " + app + " h",
          text(details, "compression"),
          bandwidth > 0 ? fmt::format("{:.0f} kbit/s", bandwidth) : "no limit"};
}

void add_policy(Commands& commands) {
  auto* policy = commands.app.add_subcommand("policy", "How often, how long, how fast");
  policy->require_subcommand(1);
  auto& wanted = commands.keep<NewPolicy>();
  auto* create = policy->add_subcommand("create", "Make a policy, or change it");
  create->add_option("name", wanted.name)->required();
  create->add_option("--every", wanted.every_seconds, "Seconds between points, 1 to 900 [300]")
      ->check(CLI::Range(1, 900));
  create->add_option("--keep-hours", wanted.keep_hours, "Keep points for, 0 to 720 [4]")
      ->check(CLI::Range(0, 720));
  create
      ->add_option("--app-consistent-hours", wanted.app_consistent_hours, "0 = never [0], up to 12")
      ->check(CLI::Range(0, 12));
  const auto choice = [&](const char* name, std::optional<bool>& into, bool value,
                          const char* about) {
    create->add_flag_callback(name, [&into, value] { into = value; }, about);
  };
  choice("--compression", wanted.compression, true, "Of deltas [yes]");
  choice("--no-compression", wanted.compression, false, "");
  create->add_option("--port", wanted.port, "Of the agents' data plane [8084]")
      ->check(CLI::Range(1, 65535));
  choice("--delete-replica", wanted.delete_replica, true,
         "Remove the replica when protection is disabled [yes]");
  choice("--keep-replica", wanted.delete_replica, false, "");
  create->add_option("--every-point-hours", wanted.every_point_hours,
                     "Keep every point this long, hourly ones after");
  create->add_option("--bandwidth-kbps", wanted.bandwidth_kbps, "0 = no limit")
      ->check(CLI::NonNegativeNumber);
  create->add_option("--journal-gib-max", wanted.journal_gib_max, "0 = what the volume holds");
  create->add_option("--floor-hours", wanted.floor_hours,
                     "Points younger than this never go for the limit of the journal [4]");
  create
      ->add_option("--keep-after-commit-hours", wanted.keep_after_commit,
                   "The replica stays this long after a failover was committed, 0 to 720 [24]")
      ->check(CLI::Range(0, 720));
  commands.on(create, [&wanted](Session& session) { return create_policy(session, wanted); });

  commands.on(policy->add_subcommand("list", "All policies"), [](Session& session) -> Status {
    FARSIDE_ASSIGN(const auto all, session.vault.list(session.paths.under("replicationPolicies")));
    std::vector<std::vector<std::string>> rows;
    for (const Json& one : all) rows.push_back(policy_row(one));
    session.show(
        all,
        table({"POLICY", "EVERY", "KEEP", "APP-CONSISTENT", "COMPRESSION", "BANDWIDTH"}, rows));
    return {};
  });

  auto& shown = commands.keep<std::string>();
  auto* show = policy->add_subcommand("show", "One policy");
  show->add_option("name", shown)->required();
  commands.on(show, [&shown](Session& session) -> Status {
    FARSIDE_ASSIGN(const Json one, session.vault.get(session.paths.policy(shown)));
    const auto row = policy_row(one);
    const Json& details = at(one, "properties.providerSpecificDetails");
    const std::string limit = text(one, "properties.farside.journalGibMax");
    session.show(
        one, sheet({{"policy", row[0]},
                    {"point every", row[1]},
                    {"kept for", row[2]},
                    {"every point for", text(one, "properties.farside.everyPointHours") + " h"},
                    {"journal limit",
                     limit.empty() || limit == "0" ? "that of the volume" : limit + " GiB"},
                    {"never for it",
                     "points younger than " + text(one, "properties.farside.floorHours") + " h"},
                    {"after a commit",
                     "kept " + text(one, "properties.farside.keepAfterCommitHours") + " h"},
                    {"app-consistent", row[3]},
                    {"compression", row[4]},
                    {"bandwidth", row[5]},
                    {"port", text(details, "replicationPort")},
                    {"replica deletion", text(details, "replicaDeletionOption")}}));
    return {};
  });

  auto& removed = commands.keep<std::string>();
  auto* remove = policy->add_subcommand("delete", "Delete a policy nobody uses");
  remove->add_option("name", removed)->required();
  commands.on(remove, [&removed](Session& session) -> Status {
    FARSIDE_TRY(session.vault.get(session.paths.policy(removed)));
    return session.finish(session.vault.send("DELETE", session.paths.policy(removed)),
                          "policy '" + removed + "' is deleted");
  });
}

struct NewPair {
  std::string name;
  std::string from;
  std::string to;
  std::string policy;
};

// A mapping is addressed below its source, so its own entry in the list tells where it is.
Status remove_by_name(Session& session, const std::string& collection, const std::string& name,
                      const std::string& what) {
  FARSIDE_ASSIGN(const auto all, session.vault.list(session.paths.under(collection)));
  for (const Json& one : all) {
    if (text(one, "name") != name) continue;
    return session.finish(session.vault.send("DELETE", text(one, "id")),
                          what + " '" + name + "' is deleted");
  }
  return fail(ErrorCode::kNotFound, "no " + what + " '" + name + "'",
              "list them with the `list` command");
}

void add_pair(Commands& commands) {
  auto* pair = commands.app.add_subcommand("pair", "Which cloud takes over for which");
  pair->require_subcommand(1);
  auto& wanted = commands.keep<NewPair>();
  auto* create = pair->add_subcommand("create", "Map a source cloud to a target cloud");
  create->add_option("name", wanted.name)->required();
  create->add_option("--from", wanted.from, "SITE/CLOUD")->required();
  create->add_option("--to", wanted.to, "SITE/CLOUD")->required();
  create->add_option("--policy", wanted.policy)->required();
  commands.on(create, [&wanted](Session& session) -> Status {
    FARSIDE_ASSIGN(const auto from, split_place(wanted.from, "--from"));
    FARSIDE_ASSIGN(const auto to, split_place(wanted.to, "--to"));
    Json body;
    body["properties"] = {{"targetProtectionContainerId", session.paths.cloud(to.first, to.second)},
                          {"policyId", session.paths.policy(wanted.policy)},
                          {"providerSpecificInput", {{"instanceType", ""}}}};
    return session.finish(
        session.vault.send("PUT", session.paths.pair(from.first, from.second, wanted.name), body),
        wanted.from + " is paired with " + wanted.to);
  });
  commands.on(pair->add_subcommand("list", "All pairs"), [](Session& session) -> Status {
    FARSIDE_ASSIGN(
        const auto all,
        session.vault.list(session.paths.under("replicationProtectionContainerMappings")));
    std::vector<std::vector<std::string>> rows;
    for (const Json& one : all) {
      rows.push_back({text(one, "name"),
                      text(one, "properties.sourceFabricFriendlyName") + "/" +
                          text(one, "properties.sourceProtectionContainerFriendlyName"),
                      text(one, "properties.targetFabricFriendlyName") + "/" +
                          text(one, "properties.targetProtectionContainerFriendlyName"),
                      text(one, "properties.policyFriendlyName"), text(one, "properties.state"),
                      text(one, "properties.health")});
    }
    session.show(all, table({"PAIR", "FROM", "TO", "POLICY", "STATE", "HEALTH"}, rows));
    return {};
  });
  auto& removed = commands.keep<std::string>();
  auto* remove = pair->add_subcommand("delete", "Delete a pair that protects nothing");
  remove->add_option("name", removed)->required();
  commands.on(remove, [&removed](Session& session) {
    return remove_by_name(session, "replicationProtectionContainerMappings", removed, "pair");
  });
}

using Place = std::pair<std::string, std::string>;  // Site, and a name there.

// One kind of mapping from a thing of one site to one of another.
struct MapKind {
  const char* command;
  const char* about;
  const char* noun;
  const char* collection;
  const char* from_to;  // What --from and --to take.
  std::string (*path)(const Paths&, const Place& from, const std::string& name);
  Json (*properties)(const Paths&, const Place& to);
  std::vector<std::string> (*row)(const Json& one);
};

const MapKind kNetworkMap{
    .command = "network-map",
    .about = "Which network replaces which",
    .noun = "network mapping",
    .collection = "replicationNetworkMappings",
    .from_to = "SITE/NETWORK",
    .path = [](const Paths& paths, const Place& from,
               const std::string& name) { return paths.mapping(from.first, from.second, name); },
    .properties =
        [](const Paths& paths, const Place& to) {
          return Json{{"recoveryFabricName", to.first},
                      {"recoveryNetworkId", paths.network(to.first, to.second)},
                      {"fabricSpecificDetails", {{"instanceType", "VmmToVmm"}}}};
        },
    .row =
        [](const Json& one) {
          return std::vector<std::string>{text(one, "name"),
                                          text(one, "properties.primaryFabricFriendlyName") + "/" +
                                              text(one, "properties.primaryNetworkFriendlyName"),
                                          text(one, "properties.recoveryFabricFriendlyName") + "/" +
                                              text(one, "properties.recoveryNetworkFriendlyName")};
        },
};

const MapKind kStorageMap{
    .command = "storage-map",
    .about = "Which storage class replaces which",
    .noun = "storage mapping",
    .collection = "replicationStorageClassificationMappings",
    .from_to = "SITE/CLASS",
    .path =
        [](const Paths& paths, const Place& from, const std::string& name) {
          return paths.storage_mapping(from.first, from.second, name);
        },
    .properties =
        [](const Paths& paths, const Place& to) {
          return Json{{"targetStorageClassificationId", paths.storage(to.first, to.second)}};
        },
    .row =
        [](const Json& one) {
          return std::vector<std::string>{text(one, "name"),
                                          text(one, "properties.farside.sourceSite") + "/" +
                                              text(one, "properties.farside.sourceClass"),
                                          text(one, "properties.farside.targetSite") + "/" +
                                              text(one, "properties.farside.targetClass")};
        },
};

void add_map(Commands& commands, const MapKind& kind) {
  auto* map = commands.app.add_subcommand(kind.command, kind.about);
  map->require_subcommand(1);
  auto& wanted = commands.keep<NewPair>();
  auto* create = map->add_subcommand("create", std::string("Make a ") + kind.noun);
  create->add_option("name", wanted.name)->required();
  create->add_option("--from", wanted.from, kind.from_to)->required();
  create->add_option("--to", wanted.to, kind.from_to)->required();
  commands.on(create, [&wanted, &kind](Session& session) -> Status {
    FARSIDE_ASSIGN(const auto from, split_place(wanted.from, "--from"));
    FARSIDE_ASSIGN(const auto to, split_place(wanted.to, "--to"));
    Json body;
    body["properties"] = kind.properties(session.paths, to);
    return session.finish(
        session.vault.send("PUT", kind.path(session.paths, from, wanted.name), body),
        wanted.from + " is mapped to " + wanted.to);
  });
  commands.on(map->add_subcommand("list", "All of them"), [&kind](Session& session) -> Status {
    FARSIDE_ASSIGN(const auto all, session.vault.list(session.paths.under(kind.collection)));
    std::vector<std::vector<std::string>> rows;
    for (const Json& one : all) rows.push_back(kind.row(one));
    session.show(all, table({"MAPPING", "FROM", "TO"}, rows));
    return {};
  });
  auto& removed = commands.keep<std::string>();
  auto* remove = map->add_subcommand("delete", std::string("Delete a ") + kind.noun);
  remove->add_option("name", removed)->required();
  commands.on(remove, [&removed, &kind](Session& session) {
    return remove_by_name(session, kind.collection, removed, kind.noun);
  });
}

}  // namespace

void add_policy_commands(Commands& commands) {
  add_policy(commands);
  add_pair(commands);
  add_map(commands, kNetworkMap);
  add_map(commands, kStorageMap);
}

}  // namespace farside::cli
