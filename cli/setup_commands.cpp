// The vault itself, who may join it, and what its sites have.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/commands.h"
#include "cli/format.h"

namespace farside::cli {
namespace {

// A key admits whoever holds it, so its file is the owner's alone and replaces nothing.
Status write_secret(const std::string& path, const std::string& content) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    return fail(ErrorCode::kIo, fmt::format("create '{}': {}", path, std::strerror(errno)),
                errno == EEXIST ? "choose another --out or remove the file first"
                                : "check that the folder exists and is yours");
  }
  const bool written =
      ::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()) &&
      ::fsync(fd) == 0;
  ::close(fd);
  if (!written) return fail(ErrorCode::kIo, "write '" + path + "'", "check the free space");
  return {};
}

Status show_vault(Session& session) {
  FARSIDE_ASSIGN(Json vault, session.vault.get(session.paths.vault()));
  FARSIDE_ASSIGN(const auto sites, session.vault.list(session.paths.under("replicationFabrics")));
  FARSIDE_ASSIGN(const auto protected_items,
                 session.vault.list(session.paths.under("replicationProtectedItems")));
  std::map<std::string, int> states;
  int unhealthy = 0;
  for (const Json& item : protected_items) {
    ++states[text(item, "properties.protectionStateDescription")];
    const std::string health = text(item, "properties.replicationHealth");
    if (health == "Warning" || health == "Critical") ++unhealthy;
  }
  std::string counts;
  for (const auto& [state, count] : states) {
    counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, state);
  }
  int connected = 0;
  for (const Json& site : sites) connected += flag(site, "properties.farside.connected") ? 1 : 0;
  std::string reasons;
  for (const Json& reason : items(vault, "properties.farside.reasons")) {
    const std::string vm = text(reason, "vm");
    reasons += fmt::format(
        "\n{}: {}{}\n  next: {}\n", text(reason, "errorLevel") == "Error" ? "critical" : "warning",
        vm.empty() ? "" : vm + ": ", text(reason, "message"), text(reason, "advice"));
  }
  session.show(vault, sheet({{"vault", text(vault, "name")},
                             {"url", session.settings.url},
                             {"sites", fmt::format("{} ({} connected)", sites.size(), connected)},
                             {"protected items", std::to_string(protected_items.size())},
                             {"states", counts},
                             {"health", text(vault, "properties.farside.health")},
                             {"unhealthy", std::to_string(unhealthy)}}) +
                          reasons);
  return {};
}

void add_key_commands(Commands& commands) {
  auto* key = commands.app.add_subcommand("key", "Registration keys, with which processes join");
  key->require_subcommand(1);

  struct Create {
    std::string role;
    std::string site;
    std::string name;
    std::string out;
    int hours = 24;
  };
  auto& create = commands.keep<Create>();
  auto* add = key->add_subcommand("create", "Make a key, for one use");
  add->add_option("--role", create.role, "provider, orchestrator or agent")
      ->required()
      ->check(CLI::IsMember({"provider", "orchestrator", "agent"}));
  add->add_option("--site", create.site, "The provider's or agent's site");
  add->add_option("--name", create.name, "The agent's host");
  add->add_option("--hours", create.hours, "Valid for; at most 120")->check(CLI::Range(1, 120));
  add->add_option("--out", create.out, "File for the key (mode 0600)")->required();
  commands.on(add, [&create](Session& session) -> Status {
    if (create.role != "orchestrator" && create.site.empty()) {
      return fail(ErrorCode::kInvalidArgument, "a key for a " + create.role + " needs its site",
                  "give --site");
    }
    FARSIDE_ASSIGN(const Outcome made, session.vault.send("POST", session.paths.keys(),
                                                          {{"role", create.role},
                                                           {"site", create.site},
                                                           {"name", create.name},
                                                           {"validHours", create.hours}}));
    FARSIDE_TRY(write_secret(create.out, text(made.body, "key")));
    Json shown = made.body;
    shown.erase("key");  // It is in the file, and on no terminal.
    shown["file"] = create.out;
    session.show(shown, fmt::format("key '{}' is in {}, valid until {} UTC for one use\n",
                                    text(made.body, "name"), create.out,
                                    date_text(text(made.body, "expiresAt"))));
    return {};
  });

  commands.on(key->add_subcommand("list", "Keys that were made"), [](Session& session) -> Status {
    FARSIDE_ASSIGN(const auto keys, session.vault.list(session.paths.keys()));
    std::vector<std::vector<std::string>> rows;
    for (const Json& one : keys) {
      rows.push_back({text(one, "name"), text(one, "role"), text(one, "site"),
                      date_text(text(one, "expiresAt")), date_text(text(one, "usedAt"))});
    }
    session.show(keys, table({"NAME", "ROLE", "SITE", "EXPIRES", "USED"}, rows));
    return {};
  });

  auto& name = commands.keep<std::string>();
  auto* revoke = key->add_subcommand("revoke", "Make a key useless");
  revoke->add_option("name", name, "As `key list` shows it")->required();
  commands.on(revoke, [&name](Session& session) {
    return session.finish(session.vault.send("DELETE", session.paths.key(name)),
                          "key '" + name + "' is revoked");
  });
}

// Counts at once; the note says who learns of it later.
Status shut_out(Session& session, const std::string& principal, const std::string& done) {
  FARSIDE_ASSIGN(const Outcome outcome,
                 session.vault.send("DELETE", session.paths.identity(principal)));
  const std::string note = text(outcome.body, "note");
  session.show(outcome.body, done + (note.empty() ? "" : "\nnote: " + note) + "\n");
  return {};
}

constexpr Micros kRotationMax = std::chrono::minutes(2);
constexpr Micros kLookEvery = std::chrono::seconds(1);

// Until the process is back with another key than `before`.
Status await_key(Session& session, const std::string& principal, const std::string& before) {
  const Micros until = session.clock.monotonic() + kRotationMax;
  while (session.clock.monotonic() < until) {
    FARSIDE_ASSIGN(const auto all, session.vault.list(session.paths.identities()));
    for (const Json& one : all) {
      if (text(one, "principal") != principal || !flag(one, "connected")) continue;
      const std::string key = text(one, "publicKey");
      if (key.empty() || key == before) continue;
      session.show(one, "'" + principal + "' has another key: " + key +
                            "\nIts sessions under way ended and are opened anew; a peer that is "
                            "away learns the key when it is back, and refuses it until then.\n");
      return {};
    }
    pause_for(kLookEvery);
  }
  return fail(ErrorCode::kTimeout, "'" + principal + "' is not back with another key yet",
              "look at its log and its /healthz; until it is, its old key is let in");
}

Status rotate_key(Session& session, const std::string& principal) {
  FARSIDE_ASSIGN(const Outcome begun,
                 session.vault.send("POST", session.paths.identity(principal) + "/rotate"));
  if (session.wait) return await_key(session, principal, text(begun.body, "publicKey"));
  session.show(begun.body, "'" + principal + "' starts again with another key\n");
  return {};
}

void add_identity_commands(Commands& commands) {
  auto* identity = commands.app.add_subcommand("identity", "Processes that have joined");
  identity->require_subcommand(1);
  commands.on(identity->add_subcommand("list", "Who may talk to whom"),
              [](Session& session) -> Status {
                FARSIDE_ASSIGN(const auto all, session.vault.list(session.paths.identities()));
                std::vector<std::vector<std::string>> rows;
                for (const Json& one : all) {
                  rows.push_back({text(one, "principal"), text(one, "role"),
                                  flag(one, "revoked")     ? "revoked"
                                  : flag(one, "connected") ? "connected"
                                                           : "silent",
                                  date_text(text(one, "registeredAt"))});
                }
                session.show(all, table({"PRINCIPAL", "ROLE", "STATE", "REGISTERED"}, rows));
                return {};
              });
  auto& principal = commands.keep<std::string>();
  auto* revoke = identity->add_subcommand("revoke", "Shut a process out");
  revoke->add_option("principal", principal, "As `identity list` shows it")->required();
  commands.on(revoke, [&principal](Session& session) {
    return shut_out(session, principal, "'" + principal + "' is revoked");
  });
  auto* rotate = identity->add_subcommand("rotate",
                                          "Let an agent or the orchestrator take another "
                                          "key: it starts again for that");
  rotate->add_option("principal", principal, "As `identity list` shows it")->required();
  commands.on(rotate, [&principal](Session& session) { return rotate_key(session, principal); });
}

Status show_site(Session& session, const std::string& name) {
  FARSIDE_ASSIGN(Json site, session.vault.get(session.paths.site(name)));
  const std::string path = session.paths.site(name);
  FARSIDE_ASSIGN(const auto clouds, session.vault.list(path + "/replicationProtectionContainers"));
  FARSIDE_ASSIGN(const auto networks, session.vault.list(path + "/replicationNetworks"));
  FARSIDE_ASSIGN(const auto storage,
                 session.vault.list(path + "/replicationStorageClassifications"));
  std::vector<std::vector<std::string>> cloud_rows;
  for (const Json& cloud : clouds) {
    cloud_rows.push_back({text(cloud, "name"), text(cloud, "properties.pairingStatus"),
                          text(cloud, "properties.protectedItemCount")});
  }
  std::vector<std::vector<std::string>> network_rows;
  for (const Json& network : networks) {
    std::string subnets;
    for (const Json& subnet : items(network, "properties.subnets")) {
      for (const Json& address : items(subnet, "addressList")) {
        subnets += (subnets.empty() ? "" : ", ") + address.get<std::string>();
      }
    }
    network_rows.push_back(
        {text(network, "name"), text(network, "properties.farside.hostNetwork"), subnets});
  }
  std::string names;
  for (const Json& one : storage) names += (names.empty() ? "" : ", ") + text(one, "name");
  site["clouds"] = clouds;
  site["networks"] = networks;
  site["storage"] = storage;
  session.show(
      site, sheet({{"site", text(site, "name")},
                   {"state", flag(site, "properties.farside.connected") ? "connected" : "silent"},
                   {"health", text(site, "properties.health")},
                   {"hosts", text(site, "properties.farside.hosts")},
                   {"virtual machines", text(site, "properties.farside.virtualMachines")},
                   {"storage", names}}) +
                "\n" + table({"CLOUD", "PAIRING", "PROTECTED"}, cloud_rows) + "\n" +
                table({"NETWORK", "ON HOSTS", "SUBNETS"}, network_rows));
  return {};
}

void add_site_commands(Commands& commands) {
  auto* site = commands.app.add_subcommand("site", "Sites and what they offer");
  site->require_subcommand(1);
  commands.on(site->add_subcommand("list", "All sites"), [](Session& session) -> Status {
    FARSIDE_ASSIGN(const auto sites, session.vault.list(session.paths.under("replicationFabrics")));
    std::vector<std::vector<std::string>> rows;
    for (const Json& one : sites) {
      rows.push_back(
          {text(one, "name"), flag(one, "properties.farside.connected") ? "connected" : "silent",
           text(one, "properties.health"), text(one, "properties.farside.clouds"),
           text(one, "properties.farside.hosts"), text(one, "properties.farside.virtualMachines")});
    }
    session.show(sites, table({"SITE", "STATE", "HEALTH", "CLOUDS", "HOSTS", "VMS"}, rows));
    return {};
  });
  auto& shown = commands.keep<std::string>();
  auto* show = site->add_subcommand("show", "One site: clouds, networks, storage");
  show->add_option("site", shown)->required();
  commands.on(show, [&shown](Session& session) { return show_site(session, shown); });

  auto& removed = commands.keep<std::string>();
  auto* remove = site->add_subcommand("remove", "Unregister a site: its provider is shut out");
  remove->add_option("site", removed)->required();
  commands.on(remove, [&removed](Session& session) -> Status {
    FARSIDE_TRY(session.vault.get(session.paths.site(removed)));
    return shut_out(session, "provider/" + removed, "site '" + removed + "' is unregistered");
  });
}

Status list_hosts(Session& session) {
  FARSIDE_ASSIGN(const auto hosts, session.vault.list(session.paths.hosts()));
  std::vector<std::vector<std::string>> rows;
  for (const Json& host : hosts) {
    double free = 0;
    for (const Json& path : items(host, "storage")) free += number(path, "freeBytes");
    rows.push_back({text(host, "name"), text(host, "site"),
                    flag(host, "connected")
                        ? "connected"
                        : "silent, " + age_text(text(host, "silentSince"), session.clock.now()),
                    text(host, "platform") + " " + text(host, "platformVersion"),
                    text(host, "agentVersion"), text(host, "virtualMachines"),
                    bytes_text(number(host, "memoryFreeMib") * 1024 * 1024), bytes_text(free)});
  }
  std::string problems;
  for (const Json& host : hosts) {
    if (const auto problem = text(host, "problem"); !problem.empty()) {
      problems += "\n" + text(host, "name") + ": " + problem + "\n";
    }
  }
  session.show(hosts, table({"HOST", "SITE", "STATE", "PLATFORM", "AGENT", "VMS", "MEMORY FREE",
                             "STORAGE FREE"},
                            rows) +
                          problems);
  return {};
}

struct VmFilter {
  std::string site;
  std::string cloud;
};

Status list_vms(Session& session, const VmFilter& filter) {
  FARSIDE_ASSIGN(const auto clouds,
                 session.vault.list(session.paths.under("replicationProtectionContainers")));
  std::vector<Json> all;
  std::vector<std::vector<std::string>> rows;
  for (const Json& cloud : clouds) {
    const std::string site = text(cloud, "properties.fabricFriendlyName");
    const std::string name = text(cloud, "name");
    if ((!filter.site.empty() && filter.site != site) ||
        (!filter.cloud.empty() && filter.cloud != name)) {
      continue;
    }
    FARSIDE_ASSIGN(const auto vms, session.vault.list(session.paths.cloud(site, name) +
                                                      "/replicationProtectableItems"));
    for (const Json& vm : vms) {
      std::string problem;
      for (const Json& one : items(vm, "properties.protectionReadinessErrors")) {
        problem += (problem.empty() ? "" : "; ") + one.get<std::string>();
      }
      rows.push_back({text(vm, "properties.friendlyName"), site, name,
                      text(vm, "properties.farside.host"), text(vm, "properties.farside.state"),
                      text(vm, "properties.protectionStatus"), problem});
      all.push_back(vm);
    }
  }
  session.show(all, table({"VM", "SITE", "CLOUD", "HOST", "STATE", "PROTECTION", "PROBLEM"}, rows));
  return {};
}

}  // namespace

void add_setup_commands(Commands& commands) {
  auto* vault = commands.app.add_subcommand("vault", "The vault at a glance");
  vault->add_subcommand("show", "The same");
  commands.on(vault, show_vault);
  add_key_commands(commands);
  add_identity_commands(commands);
  add_site_commands(commands);

  auto* host = commands.app.add_subcommand("host", "Hypervisor hosts");
  host->require_subcommand(1);
  commands.on(host->add_subcommand("list", "All hosts"), list_hosts);

  auto* vm = commands.app.add_subcommand("vm", "Virtual machines, protected or not");
  vm->require_subcommand(1);
  auto* list = vm->add_subcommand("list", "Virtual machines of the clouds");
  auto& filter = commands.keep<VmFilter>();
  list->add_option("--site", filter.site);
  list->add_option("--cloud", filter.cloud);
  commands.on(list, [&filter](Session& session) { return list_vms(session, filter); });
  add_plan_command(commands, *vm);
}

}  // namespace farside::cli
