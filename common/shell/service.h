// The thin shell that all four services share: settings, identity, store, bus, metrics, signals.
//
// main.cpp of a service reads its own settings, makes its core and its workers, and hands them to
// run(); everything that does not differ between services is here.
// Owns: the data folder and all parts named.  Thread: main, which becomes the reactor's in run().
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/random.h"
#include "common/base/version.h"
#include "common/bus/zmq_bus.h"
#include "common/identity/registrar.h"
#include "common/metrics/exposer.h"
#include "common/metrics/liveness.h"
#include "common/metrics/problems.h"
#include "common/metrics/registry.h"
#include "common/reactor/reactor.h"
#include "common/reactor/watchdog.h"
#include "common/reactor/worker_pool.h"
#include "common/shell/member.h"
#include "common/shell/reception.h"
#include "common/store/rocks_store.h"

namespace farside::shell {

// Settings of every service; see docs/operations.md.
struct CommonSettings {
  std::string data_dir;
  std::string log_level;
  std::string listen;     // Control plane; empty: dials out only.
  std::string advertise;  // How others reach `listen`.
  std::string metrics_address;
  std::uint16_t metrics_port = 0;
  std::string key_file;  // Registration key or join token; needed once.
  std::int64_t join_seconds = 0;
  std::int64_t workers = 0;
  bool lets_pass = false;              // Keeps the right of data_dir's group to pass it.
  std::int64_t watchdog_seconds = 60;  // A loop that stands for so long ends the process.
};

struct Defaults {
  std::string_view listen;
  std::uint16_t metrics_port = 0;
  std::int64_t workers = 4;
};

CommonSettings read_common(Config& config, const Defaults& defaults);

// Parses the command line of a service (--config FILE, --version, --check, --rotate-identity).
// Returns nullopt after --version or --help.  Errors: kInvalidArgument, kNotFound.
struct CommandLine {
  std::string config_path;
  bool check = false;            // Only check the configuration.
  bool rotate_identity = false;  // Only take another key; see Member::rotate().
};
Result<std::optional<CommandLine>> parse_command_line(int argc, char** argv,
                                                      std::string_view program,
                                                      std::string_view purpose);

class Service final {
 public:
  // Opens keys, store and metrics; nothing listens on the control plane yet.
  static Result<std::unique_ptr<Service>> open(std::string program, CommonSettings settings);
  // If run() ended for an order to rotate its identity, does so and starts the program again.
  ~Service();

  // See Member::ensure().
  Result<msg::Registered> ensure_member(msg::Role role, const std::string& name);

  // See Member::rotate(); then the process is to end.
  Status rotate_identity();

  // Opens the control plane.  Call before the core is made: an issuer needs the endpoint.
  Status open_bus();
  identity::Issuer issuer(std::string principal) const;

  // Makes reactor and workers and runs until SIGINT or SIGTERM (0), a failed commit (1), or an
  // order of the vault to take another key (the destructor does it).  Once; from its
  // end on the process is expected to end, and is ended if it hangs.
  struct Run {
    std::string self;
    reactor::Core& core;
    reactor::WorkerPool::Run job = [](const std::string&, const msg::Message&) {
      return Result<msg::Message>(fail(ErrorCode::kUnsupported, "no such job"));
    };
    reactor::WorkerPool::IsUrgent is_urgent = {};
    reactor::WorkerPool::PatienceFor patience = {};
    reactor::Reactor::OnAnswer on_answer = [](const std::string&, msg::Message) {};
    std::function<Status(reactor::WorkerPool&)> on_ready = [](reactor::WorkerPool&) {
      return Status{};
    };
    std::function<void()> on_stop = [] {};  // On the signal's thread: cancels long jobs.
    std::function<void()> on_end = [] {};   // After the last turn; the worker pool still lives.
    std::function<void()> on_turn = [] {};  // After each turn: looks at what else must be well.
  };
  Status run(Run run);

  const CommonSettings& settings() const { return settings_; }
  const bus::CurveKeys& keys() const { return member_->keys(); }
  const Clock& clock() const { return clock_; }
  Random& random() { return random_; }
  metrics::Registry& metrics() { return registry_; }
  metrics::Problems& problems() { return problems_; }
  metrics::Problems& notices() { return notices_; }  // What is wrong elsewhere, for /healthz.
  store::Store& store() { return *store_; }
  bus::ZmqBus& bus() { return *bus_; }

 private:
  Service(std::string program, CommonSettings settings);
  void publish(const reactor::ReactorStats& stats);

  std::string program_;
  CommonSettings settings_;
  SystemClock clock_;
  SystemRandom random_;
  std::optional<reactor::Watchdog> watchdog_;  // Outlives all that could hang.
  std::optional<reactor::Beat> starting_;      // Nobody beats these: they may not take long.
  std::optional<reactor::Beat> ending_;
  metrics::Registry registry_;
  metrics::Liveness liveness_;
  metrics::Problems problems_;
  metrics::Problems notices_;
  Reception reception_;
  std::string issuer_;  // Who admitted us; empty: nobody.
  bool starts_again_ = false;
  std::unique_ptr<store::RocksStore> store_;
  std::unique_ptr<Member> member_;
  std::unique_ptr<metrics::Exposer> exposer_;
  std::unique_ptr<bus::ZmqBus> bus_;
};

// Prints an error as every service does when it cannot start; returns the exit status.
int refuse_to_start(std::string_view program, const Error& error);

// A key pair from random digits, for registrars.
identity::KeyPair key_pair_from(const std::string& secret_hex);

}  // namespace farside::shell
