// The client against a simulated host that runs as a process of its own.
#include <gtest/gtest.h>
#include <poll.h>

#include "common/wsman/disk_changes.h"
#include "common/wsman/job.h"
#include "common/wsman/recorder.h"
#include "tests/integration/wsman/hvsim_process.h"
#include "tests/support/hvsim/hyperv_model.h"

namespace farside::wsman {
namespace {

using hvsim::HvsimProcess;
using hvsim::vm_guid;

const Login kLogin{
    .user = hvsim::kUser, .password = hvsim::kPassword, .mechanism = Mechanism::kNtlm};
const std::string kAllVms =
    "SELECT * FROM Msvm_ComputerSystem WHERE Description='Microsoft Virtual Machine'";
const SystemClock kClock;
SystemRandom kRandom;

const JobWait kWait{
    .clock = kClock,
    .pause = [](Micros time) { ::poll(nullptr, 0, static_cast<int>(time.count() / 1000)); },
    .within = Micros{30'000'000}};

Client client_of(HttpTarget target, LoginKind kind, Login login = kLogin,
                 Micros within = Micros{60'000'000}) {
  const std::string url = target.url;
  auto channel = LoginChannel::open(std::move(target), kind, std::move(login));
  EXPECT_TRUE(channel) << channel.error().what;
  return Client({.url = url, .answer_within = within}, std::move(*channel), kRandom);
}

Reference vm(int number) {
  return {.class_name = "Msvm_ComputerSystem",
          .keys = {{"CreationClassName", "Msvm_ComputerSystem"}, {"Name", vm_guid(number)}}};
}

void expect_all_is_there(Client& client) {
  const auto identity = client.identify();
  ASSERT_TRUE(identity) << to_text(identity.error());
  EXPECT_EQ(identity->vendor, "Microsoft Corporation");
  const auto vms = client.query(kAllVms);
  ASSERT_TRUE(vms) << to_text(vms.error());
  EXPECT_EQ(vms->size(), 2u);
  const auto gone = client.get(vm(77));
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kNotFound) << to_text(gone.error());
}

TEST(WsmanTest, BasicOverTls) {
  const HvsimProcess host;
  Client client = client_of(host.https(), LoginKind::kBasic);
  expect_all_is_there(client);
}

TEST(WsmanTest, NtlmOverTlsIsNotSealed) {
  const HvsimProcess host;
  Client client = client_of(host.https(), LoginKind::kNegotiate);
  expect_all_is_there(client);
}

TEST(WsmanTest, ALoginHoldsOnlyOverTheCertificateThatWasSeen) {
  const HvsimProcess strict({"--bound-to", "own"});
  Client client = client_of(strict.https(), LoginKind::kNegotiate);
  expect_all_is_there(client);

  // As that host sees it if somebody with another certificate passes the login on.
  const HvsimProcess between({"--bound-to", strict.ca_file()});
  const auto passed_on = client_of(between.https(), LoginKind::kNegotiate).identify();

  ASSERT_FALSE(passed_on);
  EXPECT_EQ(passed_on.error().code, ErrorCode::kUnauthorized) << to_text(passed_on.error());
}

TEST(WsmanTest, NtlmOverHttpIsSealedForHundredsOfCalls) {
  const HvsimProcess host;
  Client client = client_of(host.http(), LoginKind::kNegotiate);
  expect_all_is_there(client);

  for (int i = 0; i < 200; ++i) {
    const auto one = client.get(vm(i % 2));
    ASSERT_TRUE(one) << i << ": " << to_text(one.error());
    EXPECT_EQ(one->text("ElementName"), "vm-" + std::to_string(i % 2));
  }
}

TEST(WsmanTest, ACertificateLogsIn) {
  const HvsimProcess own;  // Its certificate signs for the client of the other one.
  const HvsimProcess host({"--client-ca", own.ca_file()});
  HttpTarget target = host.https();
  EXPECT_FALSE(client_of(target, LoginKind::kBasic, {.user = "x", .password = "y"}).identify());
  target.certificate_file = own.ca_file();
  target.key_file = own.folder() / "host.key";
  Client client = client_of(target, LoginKind::kCertificate, {});
  expect_all_is_there(client);
}

TEST(WsmanTest, AHostIsKnownByItsFingerprintToo) {
  const HvsimProcess host;
  HttpTarget target = host.https();
  target.ca_file.clear();
  const auto unknown = client_of(target, LoginKind::kBasic).identify();
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kUnauthorized) << to_text(unknown.error());

  target.fingerprint = host.fingerprint();
  Client known = client_of(target, LoginKind::kBasic);
  expect_all_is_there(known);

  target.fingerprint = std::string(64, 'a');
  const auto other = client_of(target, LoginKind::kBasic).identify();
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kUnauthorized) << to_text(other.error());
}

TEST(WsmanTest, AWrongPasswordIsRefusedAndNotRepeatedInErrors) {
  const HvsimProcess host;
  const Login wrong{
      .user = hvsim::kUser, .password = "wr0ng-s3cret", .mechanism = Mechanism::kNtlm};
  for (const auto& [target, kind] : {std::pair{host.https(), LoginKind::kBasic},
                                     {host.https(), LoginKind::kNegotiate},
                                     {host.http(), LoginKind::kNegotiate}}) {
    const auto refused = client_of(target, kind, wrong).identify();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kUnauthorized) << to_text(refused.error());
    EXPECT_FALSE(refused.error().advice.empty());
    EXPECT_FALSE(to_text(refused.error()).contains(wrong.password));
  }
}

TEST(WsmanTest, ALoginThatExpiredIsMadeAgain) {
  const HvsimProcess host;
  for (const HttpTarget& target : {host.http(), host.https()}) {
    Client client = client_of(target, LoginKind::kNegotiate);
    expect_all_is_there(client);
    host.order(R"({"do":"unauthorized"})");
    expect_all_is_there(client);
  }
}

TEST(WsmanTest, AResetIsToldAndTheNextRequestConnectsAnew) {
  const HvsimProcess host;
  for (const auto& [target, kind] :
       {std::pair{host.https(), LoginKind::kBasic}, {host.http(), LoginKind::kNegotiate}}) {
    Client client = client_of(target, kind);
    expect_all_is_there(client);
    host.order(R"({"do":"reset"})");

    const auto broken = client.identify();

    ASSERT_FALSE(broken);  // It may have been done: only the caller knows whether to repeat it.
    EXPECT_EQ(broken.error().code, ErrorCode::kUnavailable) << to_text(broken.error());
    expect_all_is_there(client);
  }
}

TEST(WsmanTest, ASlowAnswerTimesOut) {
  const HvsimProcess host;
  auto channel = LoginChannel::open(host.http(), LoginKind::kNegotiate, kLogin);
  ASSERT_TRUE(channel);
  ASSERT_TRUE((*channel)->ask(write_identify(), Micros{30'000'000}));
  host.order(R"({"do":"delay","ms":1500})");

  const auto late = (*channel)->ask(write_identify(), Micros{200'000});

  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kTimeout) << to_text(late.error());
  EXPECT_TRUE((*channel)->ask(write_identify(), Micros{30'000'000}));
}

TEST(WsmanTest, AnAnswerThatIsTooLargeIsNotRead) {
  const HvsimProcess host;
  HttpTarget target = host.https();
  target.reply_bytes_max = 512;
  const auto large = client_of(target, LoginKind::kBasic).identify();
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, ErrorCode::kTooLarge) << to_text(large.error());
}

TEST(WsmanTest, ManyObjectsComeInManyPages) {
  const HvsimProcess host({"--vms", "450", "--max-envelope", "65536"});
  Client client = client_of(host.http(), LoginKind::kNegotiate);

  const auto vms = client.query(kAllVms);

  ASSERT_TRUE(vms) << to_text(vms.error());
  EXPECT_EQ(vms->size(), 450u);
}

TEST(WsmanTest, PartsOfAVmAreFoundByAssociation) {
  const HvsimProcess host;
  Client client = client_of(host.http(), LoginKind::kNegotiate);
  const auto settings =
      client.associators(vm(1), "Msvm_SettingsDefineState", "Msvm_VirtualSystemSettingData");
  ASSERT_TRUE(settings) << to_text(settings.error());
  ASSERT_EQ(settings->size(), 1u);
  EXPECT_EQ(settings->at(0).texts("Notes"),
            (std::vector<std::string>{"made by hvsim", "second line"}));
  const Reference of{.class_name = "Msvm_VirtualSystemSettingData",
                     .keys = {{"InstanceID", settings->at(0).text("InstanceID")}}};

  const auto disks = client.associators(of, "Msvm_VirtualSystemSettingDataComponent",
                                        "Msvm_StorageAllocationSettingData");

  ASSERT_TRUE(disks) << to_text(disks.error());
  ASSERT_EQ(disks->size(), 1u);
  EXPECT_EQ(disks->at(0).texts("HostResource").at(0), R"(C:\VMs\vm-1\disk0.vhdx)");
  const auto parent = disks->at(0).reference("Parent");
  ASSERT_TRUE(parent) << to_text(parent.error());
  const auto drive = client.get(*parent);
  ASSERT_TRUE(drive) << to_text(drive.error());
  EXPECT_EQ(drive->number_or("ResourceType", 0), 17u);
}

TEST(WsmanTest, AHostInAnotherLanguageStillListsItsVms) {
  const HvsimProcess host({"--german"});
  Client client = client_of(host.http(), LoginKind::kNegotiate);
  EXPECT_EQ(client.query(kAllVms)->size(), 0u);  // The trap that Description is.
  EXPECT_EQ(client.query("SELECT * FROM Msvm_ComputerSystem")->size(), 3u);
}

TEST(WsmanTest, EmbeddedObjectsReachTheHost) {
  const HvsimProcess host;
  Client client = client_of(host.http(), LoginKind::kNegotiate);
  Instance settings{.class_name = "Msvm_VirtualSystemSettingData", .properties = {}};
  settings.properties["InstanceID"] = Value::text("Microsoft:" + vm_guid(0));
  settings.properties["ElementName"] = Value::text("<new> & 'name'");

  const auto done =
      call(client, service("Msvm_VirtualSystemManagementService"), "ModifySystemSettings",
           {{"SystemSettings", Value::embedded(settings)}}, kWait);

  ASSERT_TRUE(done) << to_text(done.error());
  const auto again = client.get({.class_name = "Msvm_VirtualSystemSettingData",
                                 .keys = {{"InstanceID", settings.text("InstanceID")}}});
  ASSERT_TRUE(again) << to_text(again.error());
  EXPECT_EQ(again->text("ElementName"), "<new> & 'name'");
}

struct PowerTest : testing::Test {
  HvsimProcess host{{"--time-scale", "10"}};
  Client client = client_of(host.http(), LoginKind::kNegotiate);

  Result<CallOutcome> request(std::uint16_t state) {
    return call(client, vm(0), "RequestStateChange", {{"RequestedState", Value::u16(state)}},
                kWait);
  }
  std::uint64_t state() { return client.get(vm(0))->number_or("EnabledState", 0); }
};

TEST_F(PowerTest, StatesFollowRequests) {
  for (const std::uint16_t wanted : std::vector<std::uint16_t>{2, 32768, 2, 32769, 2, 3}) {
    const auto done = request(wanted);
    ASSERT_TRUE(done) << wanted << ": " << to_text(done.error());
    EXPECT_TRUE(done->had_job);
    EXPECT_EQ(state(), wanted);
  }
  const auto again = request(3);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kConflict);
  EXPECT_TRUE(again.error().what.contains("32775"));
}

TEST_F(PowerTest, AFailedJobLeavesTheStateAndSaysWhy) {
  host.order(R"({"do":"fail_jobs","code":32768,"text":"'vm-0' failed to start."})");

  const auto failed = request(2);

  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kPlatform);
  EXPECT_TRUE(failed.error().what.contains("'vm-0' failed to start.")) << failed.error().what;
  EXPECT_EQ(state(), 3u);
}

TEST_F(PowerTest, ASlowJobIsWaitedForAndNamesItsElement) {
  host.order(R"({"do":"job_time","ms":4000})");

  const auto done = request(2);

  ASSERT_TRUE(done) << to_text(done.error());
  EXPECT_EQ(state(), 2u);
  const auto elements = affected_elements(client, done->job, "Msvm_ComputerSystem");
  ASSERT_TRUE(elements) << to_text(elements.error());
  EXPECT_EQ(elements->at(0).text("Name"), vm_guid(0));
}

TEST(JobExpiryTest, AJobThatVanishedSaysToLookAtTheEffect) {
  const HvsimProcess host({"--time-scale", "1000000"});
  Client client = client_of(host.http(), LoginKind::kNegotiate);

  const auto done = call(client, vm(0), "RequestStateChange", {{"RequestedState", Value::u16(2)}},
                         {.clock = kClock, .pause = kWait.pause, .within = Micros{30'000'000}});

  ASSERT_TRUE(done) << to_text(done.error());
  const auto job = wait_for_job(client, done->job, kWait);
  ASSERT_TRUE(job) << to_text(job.error());
  EXPECT_EQ(client.get(vm(0))->number_or("EnabledState", 0), 2u);
  ::poll(nullptr, 0, 5);
  EXPECT_EQ(wait_for_job(client, done->job, kWait)->end, JobEnd::kVanished);
}

TEST(WsmanTest, ChangedRangesComeInWindowsThatFit) {
  const HvsimProcess host;
  Client client = client_of(host.http(), LoginKind::kNegotiate);
  const ChangesQuestion question{
      .path = R"(C:\a.vhdx)", .since = "rct", .disk_bytes = std::uint64_t{1} << 30U};
  std::string ranges;
  for (std::uint64_t i = 0; i < 12'000; ++i) {
    ranges += (i == 0 ? "[" : ",[") + std::to_string(i * 65'536) + ",4096]";
  }
  host.order(R"({"do":"disk_changes","path":"C:\\a.vhdx","disk_bytes":1073741824,"ranges":[)" +
             ranges + "]}");

  const auto changed = changed_ranges(client, question, kWait);

  ASSERT_TRUE(changed) << to_text(changed.error());
  ASSERT_EQ(changed->size(), 12'000u);
  EXPECT_EQ(changed->back(), (ChangedRange{.offset = 11'999ULL * 65'536, .bytes = 4096}));

  host.order(R"({"do":"lose_tracking","path":"C:\\a.vhdx"})");
  EXPECT_EQ(changed_ranges(client, question, kWait).error().code, ErrorCode::kTrackingLost);
}

TEST(WsmanTest, SealedExchangesAreRecordedInClear) {
  const HvsimProcess host;
  auto channel = LoginChannel::open(host.http(), LoginKind::kNegotiate, kLogin);
  ASSERT_TRUE(channel);
  Client live({.url = host.http_url()},
              std::make_unique<RecordingChannel>(std::move(*channel), host.folder().path()),
              kRandom);
  const auto first = live.query(kAllVms);
  ASSERT_TRUE(first) << to_text(first.error());

  Client replayed({.url = host.http_url()},
                  std::make_unique<ReplayingChannel>(host.folder().path()), kRandom);
  const auto again = replayed.query(kAllVms);

  ASSERT_TRUE(again) << to_text(again.error());
  EXPECT_EQ(*again, *first);
}

// What real hosts refuse, and the simulated one must, too.
TEST(StrictHostTest, RefusesWhatWindowsRefuses) {
  const HvsimProcess host({"--context-ms", "0"});
  auto channel = LoginChannel::open(host.https(), LoginKind::kBasic, kLogin);
  ASSERT_TRUE(channel);
  const EnvelopeFrame frame{.to = host.https_url(), .message_id = "1"};
  const auto fault_of = [&](const std::string& envelope) {
    const auto reply = (*channel)->ask(envelope, Micros{30'000'000});
    EXPECT_TRUE(reply) << reply.error().what;
    const auto read = read_object(reply->xml);
    EXPECT_FALSE(read) << reply->xml;
    return read ? "" : read.error().what;
  };
  const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    EXPECT_TRUE(text.contains(from)) << from;
    return text.replace(text.find(from), from.size(), to);
  };

  const std::string query = write_enumerate(frame, kVirtualization, kAllVms, 1);
  EXPECT_TRUE(
      fault_of(replaced(query, "/v2/*<", "/v2/Msvm_ComputerSystem<")).contains("must be '*'"));
  EXPECT_TRUE(fault_of(replaced(query, ">512000<", ">100<")).contains("InvalidOptions"));
  EXPECT_TRUE(fault_of(replaced(query, "<a:To>",
                                R"(<x:New xmlns:x="u" s:mustUnderstand="true"/>)"
                                "<a:To>"))
                  .contains("MustUnderstand"));
  EXPECT_TRUE(fault_of(write_enumerate(frame, kVirtualization, "SELECT * FROM Nothing", 1))
                  .contains("Invalid class"));
  EXPECT_TRUE(
      fault_of(write_enumerate(frame, kVirtualization, "DELETE", 1)).contains("Invalid query"));
  EXPECT_TRUE(fault_of(write_enumerate(frame, "root/other", "SELECT * FROM A", 1))
                  .contains("DestinationUnreachable"));
  const auto first = (*channel)->ask(query, Micros{30'000'000});
  ASSERT_TRUE(first);
  const auto page = read_page(first->xml);
  ASSERT_TRUE(page) << to_text(page.error());
  EXPECT_TRUE(fault_of(write_pull(frame, kVirtualization, page->context, 1))
                  .contains("InvalidEnumerationContext"));

  const Reference vsms = service("Msvm_VirtualSystemManagementService");
  const Instance settings{.class_name = "Msvm_VirtualSystemSettingData",
                          .properties = {{"InstanceID", Value::text("x")}}};
  const std::string modify =
      write_invoke(frame, vsms, "ModifySystemSettings", {{"SystemSettings", Value::text("TREE")}});
  EXPECT_TRUE(fault_of(replaced(modify, "TREE", "<p:InstanceID>x</p:InstanceID>"))
                  .contains("SchemaValidationError"));
  EXPECT_TRUE(fault_of(replaced(modify, ">TREE<", R"( xsi:nil="true">x<)"))
                  .contains("SchemaValidationError"));
  EXPECT_TRUE(
      fault_of(write_invoke(frame, vsms, "ModifySystemSettings", {})).contains("0x80041008"));
  EXPECT_TRUE(fault_of(write_invoke(frame, vm(0), "RequestStateChange",
                                    {{"RequestedState", Value::text("")}}))
                  .contains("SchemaValidationError"));
  EXPECT_TRUE(fault_of(write_invoke(frame, vm(0), "NoMethod", {})).contains("ActionNotSupported"));
}

}  // namespace
}  // namespace farside::wsman
