// What an operator decides once: policies, pairs of clouds, pairs of networks.
#include <fmt/format.h>

#include <optional>

#include "cli/commands.h"
#include "cli/format.h"

namespace farside::cli {
namespace {

struct NewPolicy {
  std::string name;
  int every_seconds = 300;
  int keep_hours = 4;
  int app_consistent_hours = 0;
  bool no_compression = false;
  int port = 8084;
  bool delete_replica = false;
  std::optional<int> every_point_hours;
  std::optional<int> bandwidth_kbps;
  std::optional<int> journal_gib_max;
};

Status create_policy(Session& session, const NewPolicy& wanted) {
  const Json settings{
      {"instanceType", "HyperVReplica2012R2"},
      {"recoveryPoints", wanted.keep_hours},
      {"applicationConsistentSnapshotFrequencyInHours", wanted.app_consistent_hours},
      {"compression", wanted.no_compression ? "Disable" : "Enable"},
      {"initialReplicationMethod", "OverNetwork"},
      {"onlineReplicationStartTime", ""},
      {"replicationPort", wanted.port},
      {"allowedAuthenticationType", 2},
      {"replicaDeletion", wanted.delete_replica ? "Required" : "NotRequired"},
      {"replicationFrequencyInSeconds", wanted.every_seconds}};
  const std::string done = "policy '" + wanted.name + "' is there";
  Json body;
  body["properties"]["providerSpecificInput"] = settings;
  const auto created = session.vault.send("PUT", session.paths.policy(wanted.name), body);
  Json more = Json::object();
  if (wanted.every_point_hours) more["everyPointHours"] = *wanted.every_point_hours;
  if (wanted.bandwidth_kbps) more["bandwidthKbps"] = *wanted.bandwidth_kbps;
  if (wanted.journal_gib_max) more["journalGibMax"] = *wanted.journal_gib_max;
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
  create->add_option("--every", wanted.every_seconds, "Seconds between points, 1 to 900")
      ->check(CLI::Range(1, 900))
      ->capture_default_str();
  create->add_option("--keep-hours", wanted.keep_hours, "Keep points for, 0 to 720")
      ->check(CLI::Range(0, 720))
      ->capture_default_str();
  create->add_option("--app-consistent-hours", wanted.app_consistent_hours, "0 = never, up to 12")
      ->check(CLI::Range(0, 12))
      ->capture_default_str();
  create->add_flag("--no-compression", wanted.no_compression);
  create->add_option("--port", wanted.port, "Of the agents' data plane")
      ->check(CLI::Range(1, 65535))
      ->capture_default_str();
  create->add_flag("--delete-replica", wanted.delete_replica,
                   "Remove the replica when protection is disabled");
  create->add_option("--every-point-hours", wanted.every_point_hours,
                     "Keep every point this long, hourly ones after");
  create->add_option("--bandwidth-kbps", wanted.bandwidth_kbps, "0 = no limit");
  create->add_option("--journal-gib-max", wanted.journal_gib_max, "0 = what the volume holds");
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
    session.show(one,
                 sheet({{"policy", row[0]},
                        {"point every", row[1]},
                        {"kept for", row[2]},
                        {"every point for", text(one, "properties.farside.everyPointHours") + " h"},
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

void add_network_map(Commands& commands) {
  auto* map = commands.app.add_subcommand("network-map", "Which network replaces which");
  map->require_subcommand(1);
  auto& wanted = commands.keep<NewPair>();
  auto* create = map->add_subcommand("create", "Map a source network to a target network");
  create->add_option("name", wanted.name)->required();
  create->add_option("--from", wanted.from, "SITE/NETWORK")->required();
  create->add_option("--to", wanted.to, "SITE/NETWORK")->required();
  commands.on(create, [&wanted](Session& session) -> Status {
    FARSIDE_ASSIGN(const auto from, split_place(wanted.from, "--from"));
    FARSIDE_ASSIGN(const auto to, split_place(wanted.to, "--to"));
    Json body;
    body["properties"] = {{"recoveryFabricName", to.first},
                          {"recoveryNetworkId", session.paths.network(to.first, to.second)},
                          {"fabricSpecificDetails", {{"instanceType", "VmmToVmm"}}}};
    return session.finish(
        session.vault.send("PUT", session.paths.mapping(from.first, from.second, wanted.name),
                           body),
        wanted.from + " is mapped to " + wanted.to);
  });
  commands.on(map->add_subcommand("list", "All network mappings"), [](Session& session) -> Status {
    FARSIDE_ASSIGN(const auto all,
                   session.vault.list(session.paths.under("replicationNetworkMappings")));
    std::vector<std::vector<std::string>> rows;
    for (const Json& one : all) {
      rows.push_back({text(one, "name"),
                      text(one, "properties.primaryFabricFriendlyName") + "/" +
                          text(one, "properties.primaryNetworkFriendlyName"),
                      text(one, "properties.recoveryFabricFriendlyName") + "/" +
                          text(one, "properties.recoveryNetworkFriendlyName"),
                      text(one, "properties.state")});
    }
    session.show(all, table({"MAPPING", "FROM", "TO", "STATE"}, rows));
    return {};
  });
  auto& removed = commands.keep<std::string>();
  auto* remove = map->add_subcommand("delete", "Delete a network mapping");
  remove->add_option("name", removed)->required();
  commands.on(remove, [&removed](Session& session) {
    return remove_by_name(session, "replicationNetworkMappings", removed, "network mapping");
  });
}

}  // namespace

void add_policy_commands(Commands& commands) {
  add_policy(commands);
  add_pair(commands);
  add_network_map(commands);
}

}  // namespace farside::cli
