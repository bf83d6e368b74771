// Protected items: enable, watch over, drill, fail over.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "cli/commands.h"
#include "cli/format.h"

namespace farside::cli {
namespace {

constexpr const char* kProvider = "HyperVReplica2012R2";

struct Protect {
  std::string vm;
  std::string site;
  std::string cloud;
  std::string policy;
  std::string name;
};

struct FoundVm {
  Json vm;
  std::string site;
  std::string cloud;
};

Result<FoundVm> find_vm(Session& session, const Protect& wanted) {
  FARSIDE_ASSIGN(const auto clouds,
                 session.vault.list(session.paths.under("replicationProtectionContainers")));
  std::vector<FoundVm> found;
  std::vector<FoundVm> left_behind;
  std::string places;
  for (const Json& cloud : clouds) {
    const std::string site = text(cloud, "properties.fabricFriendlyName");
    const std::string name = text(cloud, "name");
    if ((!wanted.site.empty() && wanted.site != site) ||
        (!wanted.cloud.empty() && wanted.cloud != name)) {
      continue;
    }
    FARSIDE_ASSIGN(const auto vms, session.vault.list(session.paths.cloud(site, name) +
                                                      "/replicationProtectableItems"));
    for (const Json& vm : vms) {
      if (text(vm, "name") != wanted.vm && text(vm, "properties.friendlyName") != wanted.vm) {
        continue;
      }
      // The copy that a failover left behind is not what is meant, unless nothing else is.
      const bool is_fenced = text(vm, "properties.protectionStatus") == "Fenced";
      if (is_fenced) {
        left_behind.push_back({.vm = vm, .site = site, .cloud = name});
        continue;
      }
      places += (places.empty() ? "" : ", ") + site + "/" + name;
      found.push_back({.vm = vm, .site = site, .cloud = name});
    }
  }
  if (found.empty()) found = std::move(left_behind);
  if (found.empty()) {
    return fail(ErrorCode::kNotFound, fmt::format("no VM is called '{}'", wanted.vm),
                "list them with `farside vm list`");
  }
  if (found.size() > 1) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("several VMs are called '{}'", wanted.vm),
                "say which with --site and --cloud: " + places);
  }
  return found.front();
}

// The policy of the cloud's only pair, if none was named.
Result<std::string> choose_policy(Session& session, const Protect& wanted, const FoundVm& vm) {
  if (!wanted.policy.empty()) return wanted.policy;
  FARSIDE_ASSIGN(const auto pairs, session.vault.list(session.paths.cloud(vm.site, vm.cloud) +
                                                      "/replicationProtectionContainerMappings"));
  if (pairs.size() == 1) return last_segment(text(pairs.front(), "properties.policyId"));
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("cloud '{}/{}' has {} pairs", vm.site, vm.cloud, pairs.size()),
              pairs.empty() ? "create one with `farside pair create`"
                            : "say which with --policy: `farside pair list` shows them");
}

Status protect(Session& session, const Protect& wanted) {
  FARSIDE_ASSIGN(const FoundVm found, find_vm(session, wanted));
  FARSIDE_ASSIGN(const std::string policy, choose_policy(session, wanted, found));
  const std::string name = wanted.name.empty() ? text(found.vm, "name") : wanted.name;
  Json body;
  body["properties"] = {{"policyId", session.paths.policy(policy)},
                        {"protectableItemId", text(found.vm, "id")},
                        {"providerSpecificDetails", {{"instanceType", kProvider}}}};
  return session.finish(
      session.vault.send("PUT", session.paths.item(found.site, found.cloud, name), body),
      fmt::format("VM '{}' is protected", wanted.vm));
}

std::string direction_of(const Json& item) {
  return text(item, "properties.activeLocation") == "Recovery" ? "RecoveryToPrimary"
                                                               : "PrimaryToRecovery";
}

Status act(Session& session, const std::string& name, const std::string& action, const Json& body,
           const std::string& done) {
  FARSIDE_ASSIGN(const Json item, find_item(session, name));
  Json sent = body;
  if (sent.contains("properties") && sent["properties"].contains("failoverDirection")) {
    sent["properties"]["failoverDirection"] = direction_of(item);
  }
  return session.finish(
      session.vault.send("POST", text(item, "id") + "/" + action, sent),
      fmt::format("{} of '{}' is done", done, text(item, "properties.friendlyName")));
}

Status list_items(Session& session) {
  FARSIDE_ASSIGN(const auto all,
                 session.vault.list(session.paths.under("replicationProtectedItems")));
  std::vector<std::vector<std::string>> rows;
  for (const Json& item : all) {
    rows.push_back({text(item, "properties.friendlyName"), route_of(item),
                    text(item, "properties.protectionStateDescription"),
                    text(item, "properties.replicationHealth"),
                    age_text(text(item, "properties.farside.newestPointTime"), session.clock.now()),
                    text(item, "properties.policyFriendlyName")});
  }
  session.show(all, table({"VM", "WHERE", "STATE", "HEALTH", "NEWEST POINT", "POLICY"}, rows));
  return {};
}

std::string drill_text(const Json& item) {
  const std::string when = date_text(text(item, "properties.lastSuccessfulTestFailoverTime"));
  const std::string how = text(item, "properties.farside.drill");
  return how.empty() ? when : when + ", " + how;
}

// Whether a VM could be built from the newest point, as far as the target has tried.
std::string proof_text(const Json& item, Time now) {
  if (const auto fault = text(item, "properties.farside.proofFault.what"); !fault.empty()) {
    return "NO, could not be failed over now: " + fault;
  }
  const std::string when = text(item, "properties.farside.provenAt");
  return when.empty() ? "" : age_text(when, now);
}

// Of a committed failover, with what it costs.
std::string kept_text(const Json& item) {
  const std::string until = text(item, "properties.farside.keptUntil");
  if (until.empty()) return {};
  return "kept until " + date_text(until) + ", takes " +
         bytes_text(number(item, "properties.farside.journalBytes") +
                    number(item, "properties.farside.baseBytes"));
}

Status show_item(Session& session, const std::string& name) {
  FARSIDE_ASSIGN(const Json item, find_item(session, name));
  const auto now = session.clock.now();
  const auto farside = [&](const std::string& field) {
    return text(item, "properties.farside." + field);
  };
  std::string allowed;
  for (const Json& one : items(item, "properties.allowedOperations")) {
    allowed += (allowed.empty() ? "" : ", ") + one.get<std::string>();
  }
  const double changed = number(item, "properties.farside.changedBytes");
  const double wire = number(item, "properties.farside.wireBytes");
  std::string words = sheet(
      {{"VM", text(item, "properties.friendlyName")},
       {"name", text(item, "name")},
       {"where", route_of(item)},
       {"state", text(item, "properties.protectionStateDescription")},
       {"health", text(item, "properties.replicationHealth")},
       {"phase", farside("phase")},
       {"policy", text(item, "properties.policyFriendlyName")},
       {"newest point",
        farside("newestPointSeq") + ", " + age_text(farside("newestPointTime"), now)},
       {"points", farside("points")},
       {"journal", bytes_text(number(item, "properties.farside.journalBytes"))},
       {"replica", kept_text(item)},
       {"changed / sent", bytes_text(changed) + " / " + bytes_text(wire)},
       {"resyncs", farside("resyncs")},
       {"epoch", farside("epoch")},
       {"test failover", text(item, "properties.testFailoverState")},
       {"last drill", drill_text(item)},
       {"proven", proof_text(item, now)},
       {"paused", farside("pausedAt").empty() ? "" : "since " + date_text(farside("pausedAt"))},
       {"allowed now", allowed}});
  std::set<std::string> said;
  const auto add_fault = [&](const std::string& what, const std::string& advice) {
    if (what.empty() || !said.insert(what).second) return;
    words += "\nfault: " + what + "\nnext:  " + advice + "\n";
  };
  for (const Json& error : items(item, "properties.healthErrors")) {
    add_fault(text(error, "errorMessage"), text(error, "recommendedAction"));
  }
  for (const std::string fault : {"fault", "proofFault"}) {
    if (said.empty()) add_fault(farside(fault + ".what"), farside(fault + ".advice"));
  }
  session.show(item, words);
  return {};
}

Status list_points(Session& session, const std::string& name) {
  FARSIDE_ASSIGN(const Json item, find_item(session, name));
  FARSIDE_ASSIGN(const auto points, session.vault.list(text(item, "id") + "/recoveryPoints"));
  std::vector<std::vector<std::string>> rows;
  for (const Json& point : points) {
    const std::string time = text(point, "properties.recoveryPointTime");
    rows.push_back({text(point, "name"), date_text(time), age_text(time, session.clock.now()),
                    text(point, "properties.recoveryPointType"),
                    bytes_text(number(point, "properties.farside.bytes"))});
  }
  session.show(points, table({"POINT", "TAKEN (UTC)", "AGE", "KIND", "SIZE"}, rows));
  return {};
}

// How the VM would be built at the other site, and what would differ.
Status show_plan(Session& session, const std::string& name) {
  FARSIDE_ASSIGN(const Json item, find_item(session, name));
  FARSIDE_ASSIGN(const auto plan, session.vault.list(text(item, "id") + "/farside/plan"));
  std::vector<std::vector<std::string>> rows;
  for (const Json& row : plan) {
    rows.push_back({text(row, "what"), text(row, "rule"), text(row, "source"), text(row, "target"),
                    text(row, "note")});
  }
  session.show(plan, table({"WHAT", "RULE", "SOURCE", "TARGET", "NOTE"}, rows));
  return {};
}

struct Drill {
  std::string item;
  std::string point;
  std::string network;
  std::uint32_t life_seconds = 300;
};

Status test_failover(Session& session, const Drill& wanted) {
  FARSIDE_ASSIGN(const Json item, find_item(session, wanted.item));
  Json properties{{"failoverDirection", direction_of(item)},
                  {"networkType", "NoNetworkAttachAsInput"},
                  {"networkId", ""},
                  {"providerSpecificDetails", {{"instanceType", kProvider}}}};
  if (!wanted.network.empty()) {
    properties["networkType"] = "VmNetworkAsInput";
    properties["networkId"] =
        session.paths.network(text(item, "properties.recoveryFabricFriendlyName"), wanted.network);
  }
  if (!wanted.point.empty()) properties["farside"]["recoveryPoint"] = wanted.point;
  properties["farside"]["lifeSeconds"] = wanted.life_seconds;
  return session.finish(
      session.vault.send("POST", text(item, "id") + "/testFailover", {{"properties", properties}}),
      fmt::format("test VM of '{}' runs; look at it, then `farside cleanup {}`",
                  text(item, "properties.friendlyName"), text(item, "name")));
}

void add_drills(Commands& commands) {
  auto& drill = commands.keep<Drill>();
  auto* test = commands.app.add_subcommand("test-failover",
                                           "Boot a copy at the other site, touching nothing else");
  test->add_option("item", drill.item, "VM or item")->required();
  test->add_option("--point", drill.point, "Recovery point; default: the newest");
  test->add_option("--network", drill.network, "Network of the other site; default: none");
  test->add_option("--life-seconds", drill.life_seconds,
                   "How long a sign of life of the VM is waited for; default: 300")
      ->check(CLI::Range(1, 3600));
  commands.on(test, [&drill](Session& session) { return test_failover(session, drill); });

  struct Cleanup {
    std::string item;
    std::string notes;
  };
  auto& cleanup = commands.keep<Cleanup>();
  auto* clean = commands.app.add_subcommand("cleanup", "End a test failover");
  clean->add_option("item", cleanup.item, "VM or item")->required();
  clean->add_option("--notes", cleanup.notes, "What the drill showed; kept with the item");
  commands.on(clean, [&cleanup](Session& session) {
    return act(session, cleanup.item, "testFailoverCleanup",
               {{"properties", {{"comments", cleanup.notes}}}}, "clean-up");
  });

  auto& planned = commands.keep<std::string>();
  auto* fail_over = commands.app.add_subcommand(
      "planned-failover", "Shut the VM down, send its last writes, start it at the other site");
  fail_over->add_option("item", planned, "VM or item")->required();
  commands.on(fail_over, [&planned](Session& session) {
    Json body;
    body["properties"] = {{"failoverDirection", ""},
                          {"providerSpecificDetails", {{"instanceType", kProvider}}}};
    return act(session, planned, "plannedFailover", body, "planned failover");
  });

  struct Commit {
    std::string item;
    std::optional<int> keep_hours;
  };
  auto& committed = commands.keep<Commit>();
  auto* commit = commands.app.add_subcommand("commit", "Keep what a failover made");
  commit->add_option("item", committed.item, "VM or item")->required();
  commit
      ->add_option("--keep-hours", committed.keep_hours,
                   "The replica stays this long, 0 to 720 [as its policy says]; once more with a "
                   "smaller number, it goes sooner")
      ->check(CLI::Range(0, 720));
  commands.on(commit, [&committed](Session& session) {
    Json body;
    if (committed.keep_hours) {
      body["properties"] = {{"farside", {{"keepHours", *committed.keep_hours}}}};
    }
    return act(session, committed.item, "failoverCommit", body, "commit");
  });
}

void add_switches(Commands& commands) {
  struct Switch {
    const char* name;
    const char* purpose;
    const char* done;
  };
  for (const Switch& one :
       {Switch{"pause", "Take no new recovery points until it is resumed", "is paused"},
        Switch{"resume", "Take recovery points again, the next at once", "goes on"},
        Switch{"retry", "Try the next recovery point now, whatever failed before",
               "is tried again"},
        Switch{"resync", "Compare every block with the replica and send what differs",
               "compares every block, beginning now"}}) {
    auto& wanted = commands.keep<std::string>();
    auto* command = commands.app.add_subcommand(one.name, one.purpose);
    command->add_option("item", wanted, "VM or item")->required();
    commands.on(command, [&wanted, one](Session& session) -> Status {
      FARSIDE_ASSIGN(const Json item, find_item(session, wanted));
      return session.finish(
          session.vault.send("POST", text(item, "id") + "/farside/" + one.name),
          fmt::format("replication of '{}' {}", text(item, "properties.friendlyName"), one.done));
    });
  }
}

}  // namespace

void add_plan_command(Commands& commands, CLI::App& vm) {
  auto& planned = commands.keep<std::string>();
  auto* plan = vm.add_subcommand("plan", "How a protected VM would be built at the other site");
  plan->add_option("vm", planned, "VM or item")->required();
  commands.on(plan, [&planned](Session& session) { return show_plan(session, planned); });
}

void add_protect_commands(Commands& commands) {
  auto& wanted = commands.keep<Protect>();
  auto* enable = commands.app.add_subcommand("protect", "Replicate a VM to the paired cloud");
  enable->add_option("vm", wanted.vm, "Its name or id")->required();
  enable->add_option("--site", wanted.site, "Where it runs, if its name is not unique");
  enable->add_option("--cloud", wanted.cloud, "Its cloud, if its name is not unique");
  enable->add_option("--policy", wanted.policy, "Default: that of the cloud's only pair");
  enable->add_option("--name", wanted.name, "Of the protected item; default: the VM's id");
  commands.on(enable, [&wanted](Session& session) { return protect(session, wanted); });

  struct Unprotect {
    std::string item;
    bool force = false;
  };
  auto& ended = commands.keep<Unprotect>();
  auto* disable = commands.app.add_subcommand("unprotect", "Stop replicating a VM");
  disable->add_option("item", ended.item, "VM or item")->required();
  disable->add_flag("--force", ended.force, "Forget it even if a site cannot be reached");
  commands.on(disable, [&ended](Session& session) -> Status {
    FARSIDE_ASSIGN(const Json item, find_item(session, ended.item));
    const std::string done =
        "protection of '" + text(item, "properties.friendlyName") + "' has ended";
    if (ended.force) return session.finish(session.vault.send("DELETE", text(item, "id")), done);
    Json body;
    body["properties"] = {{"disableProtectionReason", "NotSpecified"},
                          {"replicationProviderInput", {{"instanceType", kProvider}}}};
    return session.finish(session.vault.send("POST", text(item, "id") + "/remove", body), done);
  });

  auto* item = commands.app.add_subcommand("item", "Protected items");
  item->require_subcommand(1);
  commands.on(item->add_subcommand("list", "All of them"), list_items);
  auto& shown = commands.keep<std::string>();
  auto* show = item->add_subcommand("show", "One of them, with its figures");
  show->add_option("item", shown, "VM or item")->required();
  commands.on(show, [&shown](Session& session) { return show_item(session, shown); });

  auto& pointed = commands.keep<std::string>();
  auto* points = commands.app.add_subcommand("points", "Recovery points of an item");
  points->add_option("item", pointed, "VM or item")->required();
  commands.on(points, [&pointed](Session& session) { return list_points(session, pointed); });

  add_drills(commands);
  add_switches(commands);
}

}  // namespace farside::cli
