// A real guest, moved from a Hyper-V host to a Hyper-V host: what a point holds boots from
// differencing disks, continues the same history, has the address it was given, and can be
// protected in turn.
#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "services/agent/platforms/deadline.h"
#include "tests/contract/platform/hyperv_host.h"
#include "tests/contract/platform/replica.h"

namespace farside::agent {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

constexpr std::uint32_t kBlockBytes = 64U << 10U;
constexpr const char* kReplicaFolder = "/replicas/failover-replica";

template <class T>
std::string why(const Result<T>& result) {
  return result ? "" : to_text(result.error());
}

class HypervFailoverTest : public testing::Test {
 protected:
  static HypervHost& host() { return HypervHost::shared(); }
  static Platform& platform() { return host().platform(); }

  void SetUp() override {
    ASSERT_TRUE(platform().reconcile({}));
    const auto started = platform().start(host().witness());
    ASSERT_TRUE(started) << why(started);
    ASSERT_TRUE(platform().forget_tokens(host().witness()));
  }

  static bool eventually(const std::function<bool()>& is_so) {
    for (const Deadline deadline(seconds(120)); !is_so();) {
      if (!deadline.pause()) return false;
    }
    return true;
  }

  static Result<Replica> copy(const std::string& vm, const std::string& token) {
    FARSIDE_ASSIGN(const auto point, platform().create_point({.vm_id = vm, .token = token}));
    Replica replica;
    FARSIDE_TRY(replica.copy_all(*point));
    FARSIDE_TRY(point->close());
    return replica;
  }

  // Every other block in the base, where the rest is garbage; that rest, or zeros, above it.
  static Result<NewDisk> disk_of(const std::string& name, const std::vector<char>& bytes) {
    const std::string_view all(bytes.data(), bytes.size());
    FARSIDE_ASSIGN(const auto base,
                   platform().base_disks()->create(kReplicaFolder, name, all.size()));
    const std::string garbage(kBlockBytes, 'x');
    for (std::uint64_t at = 0; at < all.size(); at += kBlockBytes) {
      const bool in_base = at / kBlockBytes % 2 == 0;
      FARSIDE_TRY(base->write_at(at, in_base ? all.substr(at, kBlockBytes) : garbage));
    }
    FARSIDE_TRY(base->sync());
    return NewDisk{.name = name,
                   .base_name = name,
                   .bytes = all.size(),
                   .replica_folder = kReplicaFolder,
                   .delta = [all](const VisitRange& visit) -> Status {
                     for (std::uint64_t at = kBlockBytes; at < all.size(); at += 2 * kBlockBytes) {
                       const std::string_view block = all.substr(at, kBlockBytes);
                       const bool is_zero = std::ranges::count(block, '\0') == kBlockBytes;
                       FARSIDE_TRY(visit(at, kBlockBytes, is_zero ? std::string_view() : block));
                     }
                     return {};
                   }};
  }
};

TEST_F(HypervFailoverTest, TheGuestContinuesFromThePointWithItsNewAddress) {
  const std::uint64_t acknowledged = host().write_more(20);
  const auto point = copy(host().witness(), "failover");
  ASSERT_TRUE(point) << why(point);
  const auto verdict = point->check({.acknowledged = acknowledged});
  ASSERT_TRUE(verdict && verdict->ok);
  NewVm vm = host().new_vm("successor");
  vm.is_test = false;
  vm.shape.generation = 1;  // Its disks are on IDE then.
  vm.shape.nics = {{.mac = "00:15:5d:00:02:01", .network = "blue", .address = "10.9.8.7/24"}};
  vm.disks.clear();
  for (std::size_t i = 0; i < point->disks().size(); ++i) {
    auto disk = disk_of(i == 0 ? "vda" : "vdb", point->disks()[i]);
    ASSERT_TRUE(disk) << why(disk);
    vm.disks.push_back(std::move(*disk));
  }

  const auto created = platform().create_vm(vm);

  ASSERT_TRUE(created) << why(created);
  const std::string guid = host().guid_of(vm.id);
  ASSERT_TRUE(eventually([&] { return host().acknowledged(guid) > verdict->newest + 20; }));
  EXPECT_THAT(host().serial(guid), HasSubstr("resumed seq=" + std::to_string(verdict->newest)));
  EXPECT_THAT(host().serial(guid), HasSubstr("address=10.9.8.7/24"));
  const auto shape = platform().describe_vm(vm.id);
  ASSERT_TRUE(shape) << why(shape);
  EXPECT_EQ(shape->generation, 1U);
  ASSERT_EQ(shape->disks.size(), 2U);
  EXPECT_EQ(shape->problem, "");

  // It stands on files of its host alone, which outlive the replica; and is a source as any other.
  ASSERT_TRUE(platform().detach_view(vm.id)->finished);
  EXPECT_FALSE(*platform().base_disks()->may_change(kReplicaFolder, /*is_pinned=*/false));
  ASSERT_TRUE(platform().base_disks()->remove(kReplicaFolder));
  const std::uint64_t later = host().acknowledged(guid);
  const auto reverse = copy(vm.id, "reverse");
  ASSERT_TRUE(reverse) << why(reverse);
  EXPECT_TRUE(reverse->check({.acknowledged = later})->ok);
  const auto shut = platform().shut_down(vm.id, 90);
  ASSERT_TRUE(shut) << why(shut);
  EXPECT_FALSE(shut->forced);
  const auto end = copy(vm.id, "end");
  ASSERT_TRUE(end) << why(end);
  EXPECT_TRUE(end->check({.acknowledged = host().acknowledged(guid)})->ok);

  EXPECT_EQ(platform().destroy_vm(vm.id, /*delete_overlays=*/true).error().code,
            ErrorCode::kForbidden)
      << "it is production, and its bases stay with it";
  EXPECT_TRUE(std::filesystem::exists(host().file_of(R"(C:\Farside\replicas\failover-replica)")));
}

TEST_F(HypervFailoverTest, TheGuestAgentMakesAPointConsistentForApplications) {
  std::uint64_t number = 0;
  std::unique_ptr<Point> point;
  ASSERT_TRUE(eventually([&] {  // The agent in the guest needs a moment after the boot.
    EXPECT_TRUE(point == nullptr || point->abandon());
    host().write_more(5);
    auto taken = platform().create_point({.vm_id = host().witness(),
                                          .token = "app-" + std::to_string(++number),
                                          .since = "",
                                          .app_consistent = true});
    EXPECT_TRUE(taken) << why(taken);
    point = taken ? std::move(*taken) : nullptr;
    return point == nullptr || point->is_app_consistent();
  }));
  ASSERT_NE(point, nullptr);
  Replica replica;
  ASSERT_TRUE(replica.copy_all(*point));
  ASSERT_TRUE(point->close());

  const auto verdict = replica.check({});
  ASSERT_TRUE(verdict);
  EXPECT_TRUE(verdict->ok);
  EXPECT_FALSE(verdict->partial) << "nothing was half written";
  auto deaf = platform().create_point(
      {.vm_id = host().deaf(), .token = "app", .since = "", .app_consistent = true});
  ASSERT_TRUE(deaf) << why(deaf);
  EXPECT_FALSE((*deaf)->is_app_consistent());
  ASSERT_TRUE((*deaf)->close());
  ASSERT_TRUE(platform().forget_tokens(host().deaf()));
}

}  // namespace
}  // namespace farside::agent
