#include "common/shell/service.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "common/base/assert.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/shell/key_proof.h"
#include "common/shell/shell_core.h"
#include "common/store/format_version.h"

namespace farside::shell {
namespace {

constexpr Micros kTurnSilenceMax = std::chrono::seconds{10};
constexpr const char* kStart = "the start of the process";
constexpr int kStateVersion = 1;  // Of the four programs' RocksDB folders.

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

// This program, from its beginning, under the same process id.  Returns only if that fails.
Error start_again() {
  std::ifstream command_line("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(command_line, word, '\0');) words.push_back(word);
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execv("/proc/self/exe", arguments.data());
  return from_errno(errno, "start this program again");
}

}  // namespace

CommonSettings read_common(Config& config, const Defaults& defaults) {
  CommonSettings out;
  out.data_dir = config.required_text("data_dir");
  out.log_level = config.choice("log_level", "info", {"debug", "info", "warn", "error"});
  out.listen = config.text("listen", defaults.listen);
  out.advertise = config.text("advertise", "");
  out.metrics_address = config.text("metrics.address", "127.0.0.1");
  out.metrics_port =
      static_cast<std::uint16_t>(config.integer("metrics.port", defaults.metrics_port, 0, 65535));
  out.key_file = config.text("registration_key", "");
  out.join_seconds = config.integer("join_seconds", 60, 1, 86'400);
  out.workers = config.integer("workers", defaults.workers, 1, 256);
  out.watchdog_seconds = config.integer("watchdog_seconds", 60, 1, 3600);
  return out;
}

Result<std::optional<CommandLine>> parse_command_line(int argc, char** argv,
                                                      std::string_view program,
                                                      std::string_view purpose) {
  CLI::App app{std::string(purpose), std::string(program)};
  CommandLine line;
  app.add_option("--config", line.config_path, "Configuration file (TOML)")->required();
  app.add_flag("--check", line.check, "Check the configuration and exit");
  app.add_flag("--rotate-identity", line.rotate_identity,
               "Take another key, agreed upon over the present one, and exit; stop the service "
               "first");
  app.set_version_flag("--version", std::string(kVersion));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app.exit(error) == 0) return std::nullopt;
    return fail(ErrorCode::kInvalidArgument, "wrong command line", "see --help");
  }
  return line;
}

int refuse_to_start(std::string_view program, const Error& error) {
  fmt::print(stderr, "{}: cannot start: {}\n", program, error.what);
  if (!error.advice.empty()) fmt::print(stderr, "{}: next: {}\n", program, error.advice);
  return 1;
}

identity::KeyPair key_pair_from(const std::string& secret_hex) {
  std::array<std::uint8_t, 32> secret{};
  FARSIDE_ASSERT(secret_hex.size() == 2 * secret.size());
  for (std::size_t i = 0; i < secret.size(); ++i) {
    secret.at(i) = static_cast<std::uint8_t>(std::stoul(secret_hex.substr(2 * i, 2), nullptr, 16));
  }
  std::array<char, 41> secret_z85{};
  std::array<char, 41> public_z85{};
  FARSIDE_ASSERT(zmq_z85_encode(secret_z85.data(), secret.data(), secret.size()) != nullptr);
  FARSIDE_ASSERT(zmq_curve_public(public_z85.data(), secret_z85.data()) == 0);
  return {.public_key = public_z85.data(), .secret_key = secret_z85.data()};
}

Service::Service(std::string program, CommonSettings settings)
    : program_(std::move(program)),
      settings_(std::move(settings)),
      liveness_(clock_, "the reactor", kTurnSilenceMax),
      reception_(clock_) {}

Service::~Service() {
  if (!starts_again_) return;
  // Whoever dials us would send the answer there, where nobody reads it any more.
  bus_.reset();
  // Whatever comes of it: with the old key we are let in as before.
  if (const auto rotated = member_->rotate(); !rotated) {
    log::error("identity not rotated", {{"cause", rotated.error()}});
  }
  exposer_.reset();
  member_.reset();
  store_.reset();
  log::info("starting again");
  log::error("not started again", {{"cause", start_again()}});
  ::_exit(1);  // Nobody is to take it for an end that was asked for.
}

Result<std::unique_ptr<Service>> Service::open(std::string program, CommonSettings settings) {
  log::set_up(program, settings.log_level);
  // What we and our children write is nobody else's, unless it is said where it is written.
  ::umask(S_IRWXG | S_IRWXO);
  // Blocked before any thread starts, so that only the one in run() ever sees them.
  const auto signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  raise_open_files_limit();  // Connections, and what each replica keeps open.

  std::error_code ec;
  if (auto made = make_folders(settings.data_dir); !made) {
    return fail(made.error().code,
                "data_dir '" + settings.data_dir + "' cannot be created: " + made.error().what,
                "choose a folder this user may write");
  }
  using std::filesystem::perms;
  const auto found = std::filesystem::status(settings.data_dir, ec).permissions();
  std::filesystem::permissions(
      settings.data_dir,
      perms::owner_all | (settings.lets_pass ? found & perms::group_exec : perms::none), ec);
  auto service = std::unique_ptr<Service>(new Service(std::move(program), std::move(settings)));
  service->watchdog_.emplace(
      reactor::Watchdog::Options{.stands_max =
                                     std::chrono::seconds{service->settings_.watchdog_seconds}},
      service->clock_);
  const auto& dir = service->settings_.data_dir;
  FARSIDE_TRY(store::claim_folder(
      dir + "/state", {.kind = service->program_ + " state", .version = kStateVersion}));
  FARSIDE_ASSIGN(service->store_, store::RocksStore::open(dir + "/state"));
  FARSIDE_ASSIGN(service->member_, Member::open({.program = service->program_,
                                                 .data_dir = dir,
                                                 .store = *service->store_,
                                                 .clock = service->clock_,
                                                 .random = service->random_}));
  FARSIDE_ASSIGN(service->exposer_, metrics::Exposer::start(
                                        service->settings_.metrics_address,
                                        service->settings_.metrics_port, service->registry_,
                                        [&live = service->liveness_, &problems = service->problems_,
                                         &reception = service->reception_] {
                                          auto text = live.problem();
                                          if (text.empty()) text = problems.text();
                                          return text.empty() ? reception.problem() : text;
                                        },
                                        [&notices = service->notices_] { return notices.text(); }));
  log::info("opened", {{"version", kVersion},
                       {"data", dir},
                       {"public_key", service->keys().public_key},
                       {"metrics_port", service->exposer_->port()}});
  service->starting_.emplace(kStart);
  return service;
}

Result<msg::Registered> Service::ensure_member(msg::Role role, const std::string& name) {
  starting_.reset();  // This has a deadline of its own.
  FARSIDE_ASSIGN(auto registered,
                 member_->ensure({.role = role,
                                  .name = name,
                                  .endpoint = settings_.listen.empty() ? "" : settings_.advertise,
                                  .key_file = settings_.key_file,
                                  .patience = std::chrono::seconds{settings_.join_seconds}}));
  notices_.set("registration", member_->notice());
  const auto admitted_by = issuer_of(registered);
  issuer_ = admitted_by.principal;
  reception_.expect(admitted_by, keys());
  starting_.emplace(kStart);
  return registered;
}

Status Service::rotate_identity() {
  starting_.reset();
  FARSIDE_TRY(member_->rotate());
  fmt::print("{} has another key now: start it again\n", program_);
  return {};
}

Status Service::open_bus() {
  FARSIDE_ASSIGN(bus_, bus::ZmqBus::open({.keys = keys(), .listen = settings_.listen}, clock_));
  if (!settings_.listen.empty()) {
    if (settings_.advertise.empty()) settings_.advertise = bus_->endpoint();
    log::info("listening", {{"endpoint", bus_->endpoint()}, {"advertise", settings_.advertise}});
  }
  return {};
}

identity::Issuer Service::issuer(std::string principal) const {
  return {.principal = std::move(principal),
          .endpoint = settings_.advertise,
          .public_key = keys().public_key,
          .key_pair_from = key_pair_from,
          .open_proof = [secret = keys().secret_key](const identity::KeyProof& shown) {
            return open_proof(shown, secret);
          }};
}

void Service::publish(const reactor::ReactorStats& stats) {
  liveness_.turned();
  const auto set = [&](const char* name, const char* help, double value) {
    registry_.gauge(name, help).set(value);
  };
  const auto traffic = bus_->stats();
  set("farside_reactor_turns", "Turns of the reactor since start.",
      static_cast<double>(stats.turns));
  set("farside_reactor_messages", "Messages taken since start.",
      static_cast<double>(stats.messages));
  set("farside_reactor_commits", "Batches made durable since start.",
      static_cast<double>(stats.commits));
  set("farside_reactor_refused_frames", "Frames that did not decode since start.",
      static_cast<double>(stats.refused_frames));
  set("farside_bus_refused_keys", "Handshakes with unknown or revoked keys since start.",
      static_cast<double>(traffic.refused_keys));
  set("farside_bus_dropped_frames", "Frames that could not be sent since start.",
      static_cast<double>(traffic.dropped));
  const auto count = [&](const char* name, const char* help, std::uint64_t total) {
    registry_.counter(name, help).raise_to(static_cast<double>(total));
  };
  count("farside_bus_received_frames_total", "Frames taken from peers.", traffic.frames_in);
  count("farside_bus_sent_frames_total", "Frames handed to peers.", traffic.frames_out);
  count("farside_bus_refused_frames_total",
        "Frames refused: malformed, or from a peer that is no longer admitted.",
        traffic.refused_frames);
  count("farside_bus_turned_away_total",
        "Connections to the control port ended for want of room or of a proof in time.",
        traffic.turned_away);
  count("farside_bus_broken_connections_total",
        "Connections to the control port ended for what they sent.", traffic.broken);
  count("farside_bus_redials_total", "Connections that were made anew because nothing came.",
        traffic.redials);
}

Status Service::run(Run run) {
  reactor::WorkerPool pool(
      {.threads = static_cast<std::size_t>(settings_.workers),
       .is_urgent = run.is_urgent,
       .patience = run.patience,
       .on_problem = [this](const std::string& part,
                            const std::string& problem) { problems_.set(part, problem); }},
      run.job, [this] { bus_->wake(); });
  ShellCore core({.core = run.core,
                  .reception = reception_,
                  .issuer = issuer_,
                  .public_key = keys().public_key});
  reactor::Reactor reactor({.self = run.self,
                            .core = core,
                            .store = *store_,
                            .bus = *bus_,
                            .workers = pool,
                            .clock = clock_,
                            .random = random_,
                            .on_answer = run.on_answer});
  FARSIDE_TRY(run.on_ready(pool));

  std::atomic<bool> ended{false};
  std::thread signals([&] {
    reactor::Beat beat("the thread for signals");
    const auto set = stop_signals();
    const timespec slice{.tv_sec = 0, .tv_nsec = 200'000'000};
    while (!ended) {
      beat.beat();
      if (sigtimedwait(&set, nullptr, &slice) < 0) continue;
      log::info("stopping");
      run.on_stop();
      reactor.stop();
    }
  });
  starting_.reset();
  std::optional<reactor::Beat> beat(std::in_place, "the reactor");
  Status status = reactor.start();
  while (status && !reactor.is_stopping() && !core.wants_rotation()) {
    beat->beat();
    status = reactor.turn(reactor::ReactorLimits{}.wait_ms_max);
    publish(reactor.stats());
    run.on_turn();
  }
  // Said at once: what follows may have to wait for jobs.
  if (!status) log::error("the reactor ended", {{"cause", status.error()}});
  ending_.emplace("the end of the process");
  beat.reset();
  ended = true;
  signals.join();
  run.on_stop();
  run.on_end();
  starts_again_ = status && core.wants_rotation() && !reactor.is_stopping();
  return status;
}

}  // namespace farside::shell
