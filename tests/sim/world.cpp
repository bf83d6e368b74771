#include "tests/sim/world.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/identity/membership.h"
#include "services/agent/agent_core.h"
#include "services/orchestrator/orchestrator_core.h"
#include "services/provider/provider_core.h"

namespace farside::sim {
namespace {

using msg::ItemState;
using msg::Role;

constexpr Micros kTick = std::chrono::milliseconds{100};
constexpr std::string_view kToken = "simulated-token";
constexpr std::string_view kVault =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults/farside";
constexpr std::string_view kVersion = "api-version=2023-06-01";
const std::string kVm = "11111111-1111-4111-8111-111111111111";

std::string key_of(const std::string& principal) {
  return "key-of-" + principal;
}

msg::Peer peer_of(const std::string& principal, Role role, const std::string& site) {
  return {.principal = principal,
          .role = role,
          .public_key = key_of(principal),
          .endpoint = "sim",
          .site = site};
}

identity::KeyPair no_key_pair(const std::string& hex) {
  return {.public_key = hex.substr(0, 40), .secret_key = hex.substr(0, 40)};
}

identity::Issuer issuer_of(const std::string& principal) {
  return {.principal = principal,
          .endpoint = "sim",
          .public_key = key_of(principal),
          .key_pair_from = no_key_pair,
          .open_proof = [](const identity::KeyProof&) { return Status{}; }};
}

msg::SiteDefinition site_definition(const std::string& host) {
  return {.clouds = {{.name = "cloud", .host_groups = {"all"}, .networks = {"lan"}}},
          .host_groups = {{.name = "all", .hosts = {host}}},
          .networks = {{.name = "lan", .host_network = "net"}},
          .storage = {{.name = "fast", .path = "/replicas"}}};
}

}  // namespace

struct World::Process {
  std::string principal;
  std::function<std::unique_ptr<reactor::Core>()> make;
  std::function<SimWorkers::Begin()> jobs;
  store::MemStore store;  // The disk: survives, and so does what the host's clock says.
  std::unique_ptr<ProcessClock> clock;
  std::unique_ptr<SimBus> bus;
  std::unique_ptr<SimWorkers> workers;
  std::unique_ptr<reactor::Core> core;
  std::unique_ptr<reactor::Reactor> reactor;
  std::uint64_t down_until = 0;
  bool lost = false;
};

struct World::Figures {
  metrics::Registry registry;
  metrics::Problems problems;
  vault::Probe vault{registry, problems};
  orchestrator::Probe orchestrator{registry};
  provider::Probe provider{registry, problems};
  agent::Probe agent{registry, problems};
};

World::World(std::uint64_t seed)
    : figures_(std::make_unique<Figures>()), seed_(seed), random_(seed), net_(clock_, random_) {
  // Rates between none and a lot: each seed tries another mixture.
  const auto rate = [&](double max) {
    return random_.chance(0.3) ? 0.0 : max * static_cast<double>(random_.below(1000)) / 1000.0;
  };
  faults_ = {.crash_before_commit = rate(0.004),
             .crash_after_commit = rate(0.004),
             .cut = rate(0.02),
             .mend = 0.02,
             .job_failure = rate(0.15),
             .job_crawls = rate(0.5),
             .clock_jump = rate(0.002),
             .meddling = rate(0.01),
             .cancel = rate(0.003)};
  net_.faults = {.loss = rate(0.3),
                 .repeat = rate(0.3),
                 .delay_max = Micros{static_cast<std::int64_t>(random_.below(1'500'000))}};

  for (const std::string name : {"hostA", "hostB"}) {
    hosts_[name] = ModelHost{.name = name};
    models_[name] = std::make_unique<AgentModel>(
        hosts_[name], clock_, random_, [this](const std::string& host, const std::string& item) {
          return replica_at(host, item);
        });
  }
  hosts_["hostA"].vms[kVm] =
      ModelVm{.shape = {.id = kVm,
                        .name = "web",
                        .memory_mib = 1024,
                        .processors = 1,
                        .disks = {{.name = "vda", .bytes = 1ULL << 30U}},
                        .nics = {{.mac = "52:54:00:00:00:01", .network = "lan"}}},
              .is_running = true};

  const auto no_jobs = [] { return SimWorkers::Begin{}; };
  add(
      "vault",
      [figures = figures_.get()] {
        return std::make_unique<vault::VaultCore>(
            vault::VaultSettings{
                .token_sha256 =
                    // Of "simulated-token".
                "2cbd1cdf263b1dbf5cb5b9388ed969d2f4eb01745c16974f9b8b92aa97093ca3"},
            issuer_of("vault"), figures->vault);
      },
      no_jobs);
  add(
      "orchestrator",
      [figures = figures_.get()] {
        return std::make_unique<orchestrator::OrchestratorCore>(figures->orchestrator);
      },
      no_jobs);
  for (const auto& [site, host] :
       {std::pair<std::string, std::string>{"A", "hostA"}, {"B", "hostB"}}) {
    add(
        "provider/" + site,
        [site, figures = figures_.get()] {
          return std::make_unique<provider::ProviderCore>(site, issuer_of("provider/" + site),
                                                          figures->provider);
        },
        [host] {
          return [host](const msg::Message&) -> SimWorkers::End {
            return
                [host] { return reactor::message(msg::SiteRead{.site = site_definition(host)}); };
          };
        });
    add(
        "agent/" + site + "/" + host,
        [site, figures = figures_.get()] {
          return std::make_unique<agent::AgentCore>(
              "provider/" + site, key_of("agent/" + site + "/host" + site), figures->agent);
        },
        [this, host] {
          return [this, host](const msg::Message& job) { return models_[host]->begin(job); };
        });
  }
  introduce_all();
  for (auto& process : processes_) boot(*process);
  original_ = faults_;
}

World::~World() = default;

void World::add(const std::string& name, std::function<std::unique_ptr<reactor::Core>()> make,
                std::function<SimWorkers::Begin()> jobs) {
  auto process = std::make_unique<Process>();
  process->principal = name;
  process->make = std::move(make);
  process->jobs = std::move(jobs);
  process->clock = std::make_unique<ProcessClock>(clock_);
  processes_.push_back(std::move(process));
}

// As after everybody's registration.
void World::introduce_all() {
  const auto vault = peer_of("vault", Role::vault, "");
  const auto orchestrator = peer_of("orchestrator", Role::orchestrator, "");
  const store::Table<msg::Identity> identities{"identity"};
  const auto known = [&](Process& process, const msg::Peer& peer) {
    store::Batch batch;
    identities.put(batch, peer.principal, msg::Identity{.peer = peer, .name = peer.principal});
    std::ignore = process.store.commit(batch);
  };
  const auto member = [&](Process& process, const std::string& site, std::vector<msg::Peer> peers) {
    store::Batch batch;
    identity::Membership::save(
        batch, {.principal = process.principal, .site = site, .peers = std::move(peers)});
    std::ignore = process.store.commit(batch);
  };
  for (auto& process : processes_) {
    const auto& name = process->principal;
    if (name == "vault") {
      known(*process, orchestrator);
      for (const std::string site : {"A", "B"}) {
        known(*process, peer_of("provider/" + site, Role::provider, site));
      }
    } else if (name == "orchestrator") {
      member(*process, "",
             {vault, peer_of("provider/A", Role::provider, "A"),
              peer_of("provider/B", Role::provider, "B")});
    } else {
      const auto site = name.substr(name.find('/') + 1, 1);
      const auto agent = peer_of("agent/" + site + "/host" + site, Role::agent, site);
      if (name.starts_with("provider/")) {
        known(*process, agent);
        member(*process, site, {vault, orchestrator});
      } else {
        member(*process, site, {peer_of("provider/" + site, Role::provider, site)});
      }
    }
  }
}

void World::boot(Process& process) {
  const bool crawls = random_.chance(faults_.job_crawls) && random_.chance(0.2);
  process.bus = std::make_unique<SimBus>(net_, key_of(process.principal));
  process.workers = std::make_unique<SimWorkers>(
      clock_, random_, process.jobs(), faults_.job_failure,
      crawls ? Micros{std::chrono::seconds{60}} : Micros{std::chrono::seconds{2}});
  process.core = process.make();
  process.reactor =
      std::make_unique<reactor::Reactor>(reactor::Reactor::Parts{.self = process.principal,
                                                                 .core = *process.core,
                                                                 .store = process.store,
                                                                 .bus = *process.bus,
                                                                 .workers = *process.workers,
                                                                 .clock = *process.clock,
                                                                 .random = random_});
  if (!process.reactor->start()) crash(process);
}

void World::crash(Process& process) {
  ++counts_.crashes;
  process.reactor.reset();
  process.core.reset();
  process.workers.reset();
  process.bus.reset();
  process.store.crash();
  process.down_until = ticks_ + 1 + random_.below(80);
}

void World::lose(const std::string& site) {
  lost_ = site;
  drills_before_loss_ = counts_.drills;
  for (auto& process : processes_) {
    const bool there = process->principal == "provider/" + site ||
                       process->principal.starts_with("agent/" + site + "/");
    if (!there) continue;
    if (process->reactor) crash(*process);
    process->lost = true;
  }
}

void World::turn(Process& process) {
  if (process.lost) return;
  if (!process.reactor) {
    if (ticks_ >= process.down_until) boot(process);
    return;
  }
  if (random_.chance(faults_.crash_before_commit)) {
    process.store.fail_next_commit(
        Error{.code = ErrorCode::kIo, .what = "power failed", .advice = ""});
    std::ignore = process.reactor->turn(0);
    crash(process);
    return;
  }
  const bool dies_after = random_.chance(faults_.crash_after_commit);
  if (dies_after) process.bus->mute();
  const auto status = process.reactor->turn(0);
  if (!status || dies_after) crash(process);
}

ModelReplica* World::replica_at(const std::string& host, const std::string& item) {
  const auto site = host.substr(4);
  const auto principal = "agent/" + site + "/" + host;
  if (!net_.is_up(key_of(principal)) ||
      net_.is_cut(key_of("agent/A/hostA"), key_of("agent/B/hostB"))) {
    return nullptr;
  }
  const auto found = hosts_[host].replicas.find(item);
  return found == hosts_[host].replicas.end() ? nullptr : &found->second;
}

void World::misbehave() {
  if (random_.chance(faults_.cut)) {
    const auto& a = processes_[random_.below(processes_.size())];
    const auto& b = processes_[random_.below(processes_.size())];
    net_.cut(key_of(a->principal), key_of(b->principal));
  }
  if (random_.chance(faults_.mend)) net_.mend_all();
  if (random_.chance(faults_.clock_jump)) {
    // By up to twelve hours: other processes do not notice.
    processes_[random_.below(processes_.size())]->clock->jump(
        std::chrono::seconds{static_cast<std::int64_t>(random_.below(86'400)) - 43'200});
  }
  if (random_.chance(faults_.meddling)) {
    auto& vm = hosts_["hostA"].vms[kVm];
    if (!vm.is_fenced) vm.is_running = true;
  }
}

void World::guests_write() {
  for (auto& [name, host] : hosts_) {
    for (auto& [id, vm] : host.vms) {
      if (vm.is_running && !vm.is_fenced) vm.writes += random_.below(5);
    }
  }
}

void World::run(int ticks) {
  for (int i = 0; i < ticks && violated_.empty(); ++i) {
    ++ticks_;
    clock_.advance(kTick);
    misbehave();
    guests_write();
    for (auto& process : processes_) turn(*process);
    if (ticks_ % 10 == 0) operate();
    check();
  }
}

void World::heal() {
  healed_ = true;
  faults_ = {};
  net_.faults = {};
  net_.mend_all();
  for (auto& process : processes_) {
    if (process->lost) continue;
    if (process->reactor) crash(*process);  // Boots again without its faults.
    process->down_until = 0;
  }
}

// ---- The operator ----

std::optional<msg::ProtectedItem> World::item() const {
  const vault::Catalog catalog;
  const auto all = vault::Catalog::rows(catalog.items, processes_.front()->store);
  if (!all || all->empty()) return std::nullopt;
  return all->front();
}

void World::call(const std::string& method, const std::string& path, const std::string& body) {
  auto& vault = *processes_.front();
  if (!vault.workers) return;
  vault.workers->post(
      "http/" + std::to_string(++requests_),
      reactor::message(msg::HttpRequest{.method = method,
                                        .path = std::string(kVault) + path,
                                        .query = std::string(kVersion),
                                        .authorization = "Bearer " + std::string(kToken),
                                        .body = body,
                                        .host = "vault"}));
}

// Somebody who wants the VM failed over and committed, looks every second, and tries again.
void World::operate() {
  const std::string cloud_a = "/replicationFabrics/A/replicationProtectionContainers/cloud";
  const std::string cloud_b = "/replicationFabrics/B/replicationProtectionContainers/cloud";
  const std::string self = std::string(kVault);
  const auto path = cloud_a + "/replicationProtectedItems/web";
  const auto now = item();
  if (!now && !lost_.empty()) return;
  if (!now || now->state == ItemState::enableFailed) {
    if (now && !now->job.empty()) return;
    call("PUT", "/replicationPolicies/gold",
         R"({"properties":{"providerSpecificInput":{"replicationFrequencyInSeconds":5}}})");
    call("PUT", cloud_a + "/replicationProtectionContainerMappings/pair",
         R"({"properties":{"targetProtectionContainerId":")" + self + cloud_b +
             R"(","policyId":")" + self + R"(/replicationPolicies/gold"}})");
    call("PUT", "/replicationFabrics/A/replicationNetworks/lan/replicationNetworkMappings/map",
         R"({"properties":{"recoveryNetworkId":")" + self +
             R"(/replicationFabrics/B/replicationNetworks/lan"}})");
    call("PUT", path,
         R"({"properties":{"policyId":")" + self +
             R"(/replicationPolicies/gold","protectableItemId":")" + self + cloud_a +
             "/replicationProtectableItems/" + kVm + R"("}})");
    return;
  }
  if (!lost_.empty()) {
    operate_without(*now, path);
    return;
  }
  if (!now->job.empty()) {
    if (random_.chance(faults_.cancel)) {
      call("POST", "/replicationJobs/" + now->job + "/cancel", "");
    } else {
      call("POST", "/replicationJobs/" + now->job + "/restart", "");  // Only helps who needs it.
    }
    return;
  }
  if (now->state == ItemState::protected_ && !now->test_vm.empty()) {
    call("POST", path + "/testFailoverCleanup", R"({"properties":{"comments":"fine"}})");
  } else if (now->state == ItemState::protected_ && now->drilled_at == 0) {
    call("POST", path + "/testFailover",
         R"({"properties":{"networkType":"NoNetworkAttachAsInput"}})");
  } else if (now->state == ItemState::protected_) {
    call("POST", path + "/plannedFailover",
         R"({"properties":{"failoverDirection":"PrimaryToRecovery"}})");
  } else if (now->state == ItemState::commitRequired) {
    call("POST", path + "/failoverCommit", "");
  }
}

// P5: nothing here needs the lost site.
void World::operate_without(const msg::ProtectedItem& item, const std::string& path) {
  if (!item.job.empty()) {
    call("POST", "/replicationJobs/" + item.job + "/restart", "");
  } else if (!item.test_vm.empty()) {
    call("POST", path + "/testFailoverCleanup", R"({"properties":{"comments":"fine"}})");
  } else if (counts_.drills == drills_before_loss_) {
    call("POST", path + "/testFailover",
         R"({"properties":{"networkType":"NoNetworkAttachAsInput"}})");
  } else {
    call("POST", path + "/remove", "");
  }
}

bool World::is_protected() const {
  const auto now = item();
  return now && now->state == ItemState::protected_ && now->job.empty() && now->test_vm.empty();
}

bool World::is_done() const {
  const auto now = item();
  if (!lost_.empty()) return !now && counts_.drills > drills_before_loss_;
  return now && now->state == ItemState::committed && now->job.empty();
}

// ---- The checkers: on every tick ----

void World::violation(const std::string& what) {
  if (violated_.empty()) violated_ = fmt::format("tick {}: {}", ticks_, what);
}

void World::check() {
  const auto& source = hosts_["hostA"].vms[kVm];
  for (const auto& id : failed_over_) {
    if (!hosts_["hostB"].vms.contains(id)) violation("a VM that was failed over is gone");
  }
  for (const auto& [id, vm] : hosts_["hostB"].vms) {
    if (vm.shape.is_test) continue;
    failed_over_.insert(id);
    // P4: never two active sides.
    if (vm.is_running && source.is_running) violation("P4: both sides run");
    // P3: a planned failover loses nothing.
    if (vm.booted_with != source.writes) {
      violation(
          fmt::format("P3: the replica began with {} of {} writes", vm.booted_with, source.writes));
    }
  }
  for (const auto& [item_id, replica] : hosts_["hostB"].replicas) {
    // P1, P2: points are prefixes, in order, and the newest never goes away.
    std::uint64_t before = 0;
    for (const auto& [seq, point] : replica.points) {
      if (point.writes < before) violation(fmt::format("P1: point {} goes back", seq));
      before = point.writes;
    }
    if (before > source.writes) violation("P1: a point holds writes nobody made");
    const auto newest = replica.points.empty() ? 0 : replica.points.rbegin()->first;
    auto& seen = newest_seen_[item_id];
    if (newest < seen && newest != 0) violation("P2: the newest point went away");
    seen = newest;
  }
  // P8: what the vault said of ended jobs and of a commit stays said.
  const vault::Catalog catalog;
  const auto jobs = vault::Catalog::rows(catalog.jobs, processes_.front()->store);
  if (!jobs) {
    violation("the vault's jobs are unreadable");
    return;
  }
  for (const auto& job : *jobs) {
    if (job.flow.ended_at == 0) continue;
    const auto [seen, is_new] = ended_jobs_.emplace(job.flow.id, job.flow.phase);
    if (!is_new) {
      if (seen->second != job.flow.phase) violation("P8: an ended job changed its result");
      continue;
    }
    const bool succeeded = job.flow.phase == msg::FlowPhase::succeeded;
    counts_.drills += succeeded && job.flow.workflow == "test_failover" ? 1 : 0;
    counts_.failovers += succeeded && job.flow.workflow == "planned_failover" ? 1 : 0;
    counts_.jobs_failed += succeeded ? 0 : 1;
  }
  const auto now = item();
  if (committed_seen_ && (!now || now->state != ItemState::committed)) {
    violation("P8: a committed failover was forgotten");
  }
  committed_seen_ = committed_seen_ || (now && now->state == ItemState::committed);
}

std::string World::story() const {
  std::string out = fmt::format("seed {} tick {}", seed_, ticks_);
  if (const auto now = item()) {
    out += fmt::format("\nitem {} job '{}'", msg::to_text(now->state), now->job);
  }
  const vault::Catalog catalog;
  if (const auto jobs = vault::Catalog::rows(catalog.jobs, processes_.front()->store)) {
    for (const auto& job : *jobs) {
      out += fmt::format("\njob {} {} {}", job.flow.id, job.flow.workflow,
                         msg::to_text(job.flow.phase));
      for (const auto& step : job.flow.steps) {
        out += fmt::format("\n  {} {} tries {}{}", step.name, msg::to_text(step.state), step.tries,
                           step.fault ? ": " + step.fault->what : "");
      }
    }
  }
  for (const auto& process : processes_) {
    out += fmt::format("\n{} {}", process->principal, process->reactor ? "up" : "down");
  }
  for (const auto& [name, host] : hosts_) {
    for (const auto& [id, vm] : host.vms) {
      out += fmt::format("\n{} vm {} writes {} running {} fenced {}", name, id, vm.writes,
                         vm.is_running, vm.is_fenced);
    }
    for (const auto& [id, replica] : host.replicas) {
      out += fmt::format("\n{} replica {} points {} open {}", name, id, replica.points.size(),
                         replica.is_open);
    }
  }
  return out;
}

}  // namespace farside::sim
