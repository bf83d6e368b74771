// What an agent's workers do, source and target together over a real data port, on hosts in memory.
#pragma once

#include <gtest/gtest.h>
#include <filesystem>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "services/agent/platforms/sim/sim_platform.h"
#include "services/agent/source_work.h"
#include "services/agent/target_work.h"
#include "tests/support/temp_folder.h"

namespace farside::agent {

inline constexpr const char* kItem = "00000000-0000-4000-8000-00000000000a";
inline constexpr const char* kVm = "00000000-0000-4000-8000-00000000000b";
inline constexpr const char* kTestVm = "00000000-0000-4000-8000-00000000000c";
inline constexpr std::uint64_t kMib = 1U << 20U;

class SkewedClock final : public Clock {
 public:
  Time now() const override { return real_.now() + passed + skew; }
  Micros monotonic() const override { return stands ? Micros{0} : real_.monotonic() + passed; }

  Micros passed{0};
  Micros skew{0};
  std::atomic<bool> stands = false;

 private:
  SystemClock real_;
};

class TwoHosts : public testing::Test {
 protected:
  void SetUp() override {
    here_.add_vm({.id = kVm,
                  .name = "web",
                  .state = msg::PowerState::running,
                  .memory_mib = 160,
                  .processors = 1,
                  .disks = {{.name = "vda", .bytes = 4 * kMib, .id = "serial:a"},
                            {.name = "vdb", .bytes = 2 * kMib, .id = "serial:b"}},
                  .nics = {{.mac = "52:54:00:00:00:01", .network = "lan"}}});
    auto started = data::Receiver::start(
        {.endpoint = "tcp://127.0.0.1:*",
         .keys = target_keys_,
         .open_item =
             [this](const std::string& item, const std::vector<msg::ReplicaDisk>& disks) {
               return target_.open_item(item, disks);
             },
         .on_durable = {}},
        clock_);
    ASSERT_TRUE(started) << started.error().what;
    receiver_ = std::move(*started);
    target_.attach(*receiver_);
    target_.set_endpoint(receiver_->endpoint());
  }
  void TearDown() override { receiver_.reset(); }

  msg::PrepareReplica preparation(const std::string& network = "blue") {
    const auto checked = source_.run(msg::CheckSource{.vm = kVm});
    EXPECT_TRUE(checked);
    const auto& known = std::get<msg::SourceChecked>(checked->value);
    return {.item = kItem,
            .vm = known.vm,
            .epoch = 1,
            .storage_path = folder_ / "storage",
            .source_key = source_keys_.public_key,
            .policy = {.retention_hours = 24, .every_point_hours = 1},
            .definition = known.definition,
            .networks = {{.source = "lan", .target = network}},
            .vm_name = "web"};
  }
  Result<msg::Message> prepare(const std::string& network = "blue") {
    return target_.run(preparation(network));
  }

  // As the core makes it: lost tracking is answered by a comparison.
  Result<msg::CycleDone> cycle(bool digest = false, bool final = false) {
    source_item_.endpoint = receiver_->endpoint();
    source_item_.target_key = target_keys_.public_key;
    for (;;) {
      const auto attempt = "t-" + std::to_string(++attempts_);
      const auto result = source_.run(msg::RunCycle{
          .source = source_item_, .attempt = attempt, .final = final, .digest = digest});
      if (result) {
        source_item_.token = attempt;
        source_item_.resync = false;
        return std::get<msg::CycleDone>(result->value);
      }
      const bool lost = result.error().code == ErrorCode::kTrackingLost;
      if (!lost || source_item_.resync || final) return fail(result.error());
      source_item_.resync = true;
    }
  }
  void point() {
    const auto done = cycle();
    ASSERT_TRUE(done) << done.error().what;
  }
  // What the vault does when the source's host has told of another shape.
  void order_disks() {
    std::vector<msg::ReplicaDisk> disks;
    const auto vm = here_.find_vm(kVm);
    for (const auto& disk : vm->disks) {
      disks.push_back({.name = disk.name, .bytes = disk.bytes, .id = disk.id});
    }
    ASSERT_TRUE(target_.run(msg::ItemSettings{
        .item = kItem, .epoch = 1, .policy = {.retention_hours = 24}, .disks = disks}));
  }
  msg::Vm drill(std::uint64_t seq) {
    const auto started = target_.run(msg::StartTestVm{
        .item = kItem, .seq = seq, .vm_name = "web - Test", .network = "blue", .vm = kTestVm});
    EXPECT_TRUE(started) << started.error().what;
    auto vm = there_.find_vm(kTestVm).value_or(msg::Vm{});
    EXPECT_TRUE(target_.run(msg::RemoveTestVm{.item = kItem, .vm = kTestVm}));
    return vm;
  }
  void fail_over() {
    ASSERT_TRUE(prepare());
    point();
    ASSERT_TRUE(target_.run(msg::PromoteReplica{.item = kItem, .epoch = 2}));
    const auto started = target_.run(
        msg::StartReplica{.item = kItem, .epoch = 2, .vm_name = "web", .nics = {}, .vm = kTestVm});
    ASSERT_TRUE(started) << started.error().what;
  }
  bool has_replica() const {
    return std::filesystem::exists(folder_.path() + "/storage/farside-replicas/" + kItem);
  }
  msg::ReplicaMaintained maintain(msg::ReplicaItem replica) {
    const auto result = target_.run(msg::MaintainReplica{.replica = std::move(replica)});
    EXPECT_TRUE(result) << result.error().what;
    return result ? std::get<msg::ReplicaMaintained>(result->value) : msg::ReplicaMaintained{};
  }

  test::TempFolder folder_;
  SystemClock clock_;
  SystemRandom random_;
  SkewedClock source_clock_;
  SkewedClock target_clock_;
  sim::Host here_{"hostA", source_clock_, {"lan"}};
  sim::Host there_{"hostB", clock_, {"blue"}};
  std::unique_ptr<Platform> source_platform_ = sim::open_platform(here_);
  std::unique_ptr<Platform> target_platform_ = sim::open_platform(there_);
  bus::CurveKeys source_keys_ = bus::generate_keys().value();
  bus::CurveKeys target_keys_ = bus::generate_keys().value();
  data::Shipper shipper_{folder_ / "pending", random_};
  replica::Views views_{folder_ / "run", "", /*served=*/false};
  SourceWork source_{*source_platform_, shipper_, source_keys_, clock_, [](auto) {}};
  TargetWork target_{{.endpoint = "",
                      .public_key = target_keys_.public_key,
                      .log_folder = folder_ / "logs",
                      .prove_gap = Micros{0},
                      .detach_stalled = std::chrono::milliseconds{200}},
                     *target_platform_,
                     views_,
                     target_clock_,
                     [](auto) {}};
  std::unique_ptr<data::Receiver> receiver_;
  msg::SourceItem source_item_{.item = kItem, .vm = kVm, .epoch = 1};
  int attempts_ = 0;
};

}  // namespace farside::agent
