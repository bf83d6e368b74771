#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "cli/app.h"
#include "cli/paths.h"
#include "cli/screen.h"
#include "services/vault/front_door/arm_errors.h"
#include "tests/unit/cli/test_vault.h"

namespace farside::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct Ran {
  int code = -1;
  std::string out;
  std::string err;
};

Json cloud_json(const std::string& site, const std::string& cloud) {
  return {{"id", TestVault::path("/replicationFabrics/" + site +
                                 "/replicationProtectionContainers/" + cloud)},
          {"name", cloud},
          {"properties",
           {{"friendlyName", cloud},
            {"fabricFriendlyName", site},
            {"pairingStatus", "Paired"},
            {"protectedItemCount", 0}}}};
}

Json vm_json(const std::string& site, const std::string& cloud, const std::string& id,
             const std::string& name) {
  return {
      {"id", TestVault::path("/replicationFabrics/" + site + "/replicationProtectionContainers/" +
                             cloud + "/replicationProtectableItems/" + id)},
      {"name", id},
      {"properties",
       {{"friendlyName", name},
        {"protectionStatus", "Unprotected"},
        {"protectionReadinessErrors", Json::array()},
        {"farside", {{"host", "a1"}, {"state", "running"}}}}}};
}

Json item_json(const std::string& site, const std::string& cloud, const std::string& name,
               const std::string& vm) {
  return {
      {"id", TestVault::path("/replicationFabrics/" + site + "/replicationProtectionContainers/" +
                             cloud + "/replicationProtectedItems/" + name)},
      {"name", name},
      {"properties",
       {{"friendlyName", vm},
        {"protectionStateDescription", "Protected"},
        {"replicationHealth", "Normal"},
        {"activeLocation", "Primary"},
        {"primaryFabricFriendlyName", site},
        {"primaryProtectionContainerFriendlyName", cloud},
        {"recoveryFabricFriendlyName", "east"},
        {"recoveryProtectionContainerFriendlyName", "silver"},
        {"policyFriendlyName", "fast"},
        {"farside",
         {{"phase", "initial"},
          {"bytesDone", 512 * 1024},
          {"bytesTotal", 1024 * 1024},
          {"newestPointTime", nullptr},
          {"wireBytes", 2048},
          {"fault", {{"what", "the link is down"}, {"advice", "mend it"}}}}}}}};
}

Json job_json(const std::string& id, const std::string& state, std::vector<Json> tasks,
              std::vector<Json> errors = {}) {
  return {{"id", TestVault::path("/replicationJobs/" + id)},
          {"name", id},
          {"properties",
           {{"friendlyName", "Enable protection"},
            {"targetObjectName", "web"},
            {"state", state},
            {"stateDescription", state},
            {"tasks", std::move(tasks)},
            {"errors", std::move(errors)}}}};
}

Json task_json(const std::string& name, const std::string& state, double done = 0,
               double total = 0) {
  return {{"taskId", name},
          {"friendlyName", name},
          {"state", state},
          {"stateDescription", state},
          {"farside", {{"progress", {{"done", done}, {"total", total}}}, {"note", ""}}}};
}

class CliTest : public testing::Test {
 protected:
  CliTest() {
    for (const char* name : {"FARSIDE_URL", "FARSIDE_CA", "FARSIDE_TOKEN_FILE"}) ::unsetenv(name);
    ::setenv("XDG_CONFIG_HOME", vault_.folder().c_str(), 1);
    vault_.lists["replicationfabrics"] = {};
    vault_.lists["replicationprotectioncontainers"] = {cloud_json("west", "gold"),
                                                       cloud_json("east", "silver")};
    vault_.lists
        ["replicationfabrics/west/replicationprotectioncontainers/gold/"
         "replicationprotectableitems"] = {vm_json("west", "gold", "id-1", "web"),
                                           vm_json("west", "gold", "id-2", "twin")};
    vault_.lists
        ["replicationfabrics/east/replicationprotectioncontainers/silver/"
         "replicationprotectableitems"] = {vm_json("east", "silver", "id-3", "twin")};
    vault_.lists
        ["replicationfabrics/west/replicationprotectioncontainers/gold/"
         "replicationprotectioncontainermappings"] = {
        {{"name", "main"},
         {"properties", {{"policyId", TestVault::path("/replicationPolicies/fast%201")}}}}};
    vault_.lists["replicationprotecteditems"] = {item_json("west", "gold", "id-1", "web")};
    vault_.lists["replicationjobs"] = {};
  }

  static Ran run_bare(std::vector<std::string> arguments, bool is_terminal = false) {
    std::ostringstream out;
    std::ostringstream err;
    const int code = run(std::move(arguments), out, err, is_terminal);
    return {.code = code, .out = out.str(), .err = err.str()};
  }
  Ran farside(std::vector<std::string> arguments, bool is_terminal = false) {
    for (const std::string& option :
         {std::string("--vault-url"), vault_.url(), std::string("--ca"), vault_.ca_file(),
          std::string("--token-file"), vault_.token_file()}) {
      arguments.push_back(option);
    }
    return run_bare(std::move(arguments), is_terminal);
  }

  TestVault vault_;
};

TEST_F(CliTest, HelpIsNoErrorAndNamesTheExitCodes) {
  const Ran ran = run_bare({"--help"});

  EXPECT_EQ(ran.code, kDone);
  EXPECT_THAT(ran.out, AllOf(HasSubstr("planned-failover"), HasSubstr("Exit codes")));
}

TEST_F(CliTest, WrongUsageIsToldBeforeAnythingIsAsked) {
  EXPECT_EQ(farside({}).code, kUsage);
  EXPECT_EQ(farside({"fly"}).code, kUsage);
  EXPECT_EQ(farside({"protect"}).code, kUsage);
  EXPECT_EQ(farside({"key", "create", "--role", "king", "--out", "x"}).code, kUsage);
  EXPECT_EQ(farside({"policy", "create", "p", "--every", "901"}).code, kUsage);
  EXPECT_EQ(farside({"policy", "create", "p", "--bandwidth-kbps", "-3"}).code, kUsage);
  EXPECT_EQ(farside({"jobs", "list", "--state", "Faild"}).code, kUsage);
  EXPECT_EQ(farside({"pair", "create", "p", "--from", "west", "--to", "a/b", "--policy", "p"}).code,
            kUsage);
  EXPECT_TRUE(vault_.asked().empty());
}

TEST_F(CliTest, AVaultThatCannotBeReachedIsItsOwnExitCode) {
  vault_.stop();

  const Ran ran = farside({"site", "list"});

  EXPECT_EQ(ran.code, kUnreachable);
  EXPECT_THAT(ran.err, AllOf(HasSubstr(vault_.url()), HasSubstr("next: ")));
  vault_.start();
}

TEST_F(CliTest, AVaultOfAnotherAuthorityIsNotTrusted) {
  const TestVault other;

  const Ran ran = run_bare({"site", "list", "--vault-url", vault_.url(), "--ca", other.ca_file(),
                            "--token-file", vault_.token_file()});

  EXPECT_EQ(ran.code, kUnreachable);
  EXPECT_THAT(ran.err, HasSubstr("--ca"));
  EXPECT_TRUE(vault_.asked().empty());
}

TEST_F(CliTest, AWrongTokenIsNotAuthorised) {
  std::ofstream(vault_.token_file(), std::ios::trunc) << "guess";

  const Ran ran = farside({"site", "list"});

  EXPECT_EQ(ran.code, kNotAuthorised);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("who are you?"), HasSubstr("--token-file")));
}

TEST_F(CliTest, NotFoundCarriesTheVaultsWordsAndAdvice) {
  const Ran ran = farside({"policy", "show", "gone"});

  EXPECT_EQ(ran.code, kMissing);
  EXPECT_EQ(ran.err,
            "farside: no 'replicationpolicies/gone' here (ResourceNotFound)\n"
            "next: look elsewhere\n");
}

TEST_F(CliTest, ErrorsAreJsonForPrograms) {
  const Ran ran = farside({"policy", "show", "gone", "--json"});

  EXPECT_EQ(ran.code, kMissing);
  const Json error = Json::parse(ran.err);
  EXPECT_EQ(error["error"]["advice"], "look elsewhere");
}

TEST_F(CliTest, PlainHttpIsRefused) {
  const Ran ran = run_bare(
      {"site", "list", "--vault-url", "http://127.0.0.1:1", "--token-file", vault_.token_file()});

  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(ran.err, HasSubstr("https"));
}

TEST_F(CliTest, SettingsComeFromTheEnvironmentAndTheFile) {
  std::filesystem::create_directories(vault_.folder() + "/farside");
  std::ofstream(vault_.folder() + "/farside/cli.toml")
      << "url = \"" << vault_.url() << "/\"\nca = \"/nowhere\"\n";
  ::setenv("FARSIDE_CA", vault_.ca_file().c_str(), 1);
  ::setenv("FARSIDE_TOKEN_FILE", vault_.token_file().c_str(), 1);

  const Ran ran = run_bare({"site", "list"});

  EXPECT_EQ(ran.code, kDone) << ran.err;
}

TEST_F(CliTest, AMistakeInTheFileIsUsage) {
  std::filesystem::create_directories(vault_.folder() + "/farside");
  std::ofstream(vault_.folder() + "/farside/cli.toml") << "tokenfile = \"x\"\n";

  const Ran ran = farside({"site", "list"});

  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(ran.err, HasSubstr("tokenfile"));
}

TEST_F(CliTest, ListsAreTablesForPeopleAndJsonForPrograms) {
  const Ran people = farside({"vm", "list", "--site", "west"});
  const Ran programs = farside({"vm", "list", "--json"});

  EXPECT_EQ(people.code, kDone) << people.err;
  EXPECT_THAT(people.out, AllOf(HasSubstr("VM    SITE  CLOUD"), HasSubstr("web   west  gold"),
                                Not(HasSubstr("east"))));
  EXPECT_EQ(Json::parse(programs.out).size(), 3u);
}

TEST_F(CliTest, AnEmptyVaultSaysNothingIsThere) {
  EXPECT_EQ(farside({"site", "list"}).out, "nothing\n");
  EXPECT_EQ(farside({"site", "list", "--json"}).out, "[]\n");
}

TEST_F(CliTest, AllPagesAreReadButTheTokenGoesToNobodyElse) {
  vault_.before = [this](const Asked& asked) -> std::optional<front_door::HttpResponse> {
    const std::string page = front_door::Query::parse(asked.query)->text("page");
    Json body{{"value", {{{"name", "site" + page}, {"properties", Json::object()}}}}};
    if (page.empty())
      body["nextLink"] = vault_.url() + asked.path + "?api-version=2023-06-01&page=2";
    if (page == "2") body["nextLink"] = asked.path + "?api-version=2023-06-01&page=3";
    if (page == "3") body["nextLink"] = "https://elsewhere.invalid/steal";
    return front_door::HttpResponse{.status = 200, .headers = {}, .body = body.dump()};
  };

  const Ran ran = farside({"site", "list", "--json"});

  EXPECT_EQ(ran.code, kDone) << ran.err;
  const Json sites = Json::parse(ran.out);
  ASSERT_EQ(sites.size(), 3u);
  EXPECT_EQ(sites[1]["name"], "site2");
  EXPECT_EQ(sites[2]["name"], "site3");
}

TEST_F(CliTest, ANewKeyGoesIntoAFileOfItsOwnersAndOntoNoTerminal) {
  vault_.before = [](const Asked& asked) -> std::optional<front_door::HttpResponse> {
    if (asked.method != "POST") return std::nullopt;
    const Json body{{"name", "provider-west"},
                    {"key", "# A comment.\nsecret = \"the secret key\"\n"},
                    {"expiresAt", "2026-03-02T12:00:00.0000000Z"}};
    return front_door::HttpResponse{.status = 201, .headers = {}, .body = body.dump()};
  };
  const std::string file = vault_.folder() + "/west.key";
  const std::vector<std::string> command{"key",    "create", "--role", "provider",
                                         "--site", "west",   "--out",  file};

  const Ran first = farside(command);
  const Ran second = farside(command);

  EXPECT_EQ(first.code, kDone) << first.err;
  EXPECT_THAT(first.out, AllOf(HasSubstr(file), Not(HasSubstr("secret"))));
  std::ostringstream content;
  content << std::ifstream(file).rdbuf();
  EXPECT_EQ(content.str(), "# A comment.\nsecret = \"the secret key\"\n");
  struct stat facts{};
  ASSERT_EQ(::stat(file.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0600U);
  EXPECT_EQ(vault_.last_change().body["validHours"], 24);
  EXPECT_EQ(second.code, kFailed);
  EXPECT_THAT(second.err, HasSubstr("--out"));
}

TEST_F(CliTest, APolicyIsSentInTheShapeTheSdksUse) {
  const Ran ran = farside({"policy", "create", "fast one", "--every", "5", "--keep-hours", "12"});

  EXPECT_EQ(ran.code, kDone) << ran.err;
  const Asked asked = vault_.last_change();
  EXPECT_EQ(asked.method, "PUT");
  EXPECT_THAT(asked.path, testing::EndsWith("/replicationPolicies/fast one"));
  const Json& input = asked.body["properties"]["providerSpecificInput"];
  EXPECT_EQ(input["instanceType"], "HyperVReplica2012R2");
  EXPECT_EQ(input["replicationFrequencyInSeconds"], 5);
  EXPECT_EQ(input["recoveryPoints"], 12);
  EXPECT_FALSE(input.contains("compression")) << "what is not given stays as it is";
}

TEST_F(CliTest, StorageClassesAreMappedByTheirIds) {
  ASSERT_EQ(
      farside({"storage-map", "create", "disks", "--from", "west/fast", "--to", "east/slow"}).code,
      kDone);

  const Asked asked = vault_.last_change();
  EXPECT_THAT(asked.path, testing::EndsWith("/replicationFabrics/west/replicationStorage"
                                            "Classifications/fast/replicationStorage"
                                            "ClassificationMappings/disks"));
  EXPECT_THAT(asked.body["properties"]["targetStorageClassificationId"].get<std::string>(),
              testing::EndsWith("/replicationFabrics/east/replicationStorageClassifications/slow"));
}

TEST_F(CliTest, WhatOnlyFarsideHasGoesThroughItsOwnRoute) {
  const Ran ran =
      farside({"policy", "create", "slow", "--bandwidth-kbps", "800", "--floor-hours", "8"});

  EXPECT_EQ(ran.code, kDone) << ran.err;
  const Asked asked = vault_.last_change();
  EXPECT_THAT(asked.path, testing::EndsWith("/farside/policies/slow"));
  EXPECT_EQ(asked.body, (Json{{"properties", {{"bandwidthKbps", 800}, {"floorHours", 8}}}}));
  EXPECT_EQ(vault_.asked().size(), 2u);
}

TEST_F(CliTest, PairsAndNetworkMappingsNameBothEndsByTheirIds) {
  ASSERT_EQ(farside({"pair", "create", "main", "--from", "west/gold", "--to", "east/silver",
                     "--policy", "fast"})
                .code,
            kDone);
  const Asked pair = vault_.last_change();
  ASSERT_EQ(
      farside({"network-map", "create", "lan", "--from", "west/lan", "--to", "east/lan 2"}).code,
      kDone);
  const Asked map = vault_.last_change();

  EXPECT_THAT(pair.path,
              testing::EndsWith("/replicationFabrics/west/replicationProtectionContainers"
                                "/gold/replicationProtectionContainerMappings/main"));
  EXPECT_THAT(text(pair.body, "properties.targetProtectionContainerId"),
              testing::EndsWith("/replicationFabrics/east/replicationProtectionContainers/silver"));
  EXPECT_THAT(text(pair.body, "properties.policyId"),
              testing::EndsWith("/replicationPolicies/fast"));
  EXPECT_THAT(map.path, testing::EndsWith("/replicationFabrics/west/replicationNetworks/lan/"
                                          "replicationNetworkMappings/lan"));
  EXPECT_THAT(text(map.body, "properties.recoveryNetworkId"),
              testing::EndsWith("/replicationFabrics/east/replicationNetworks/lan%202"));
  EXPECT_EQ(text(map.body, "properties.recoveryFabricName"), "east");
}

TEST_F(CliTest, APairIsDeletedByItsNameAlone) {
  vault_.lists["replicationprotectioncontainermappings"] = {
      {{"id", TestVault::path("/replicationFabrics/west/x/main")}, {"name", "main"}}};

  EXPECT_EQ(farside({"pair", "delete", "main"}).code, kDone);
  EXPECT_EQ(vault_.last_change().method, "DELETE");
  EXPECT_EQ(vault_.last_change().path, TestVault::path("/replicationFabrics/west/x/main"));
  EXPECT_EQ(farside({"pair", "delete", "other"}).code, kMissing);
}

TEST_F(CliTest, ProtectFindsTheVmAndThePolicyAndFollowsTheJob) {
  vault_.starts[""] = "job-1";
  vault_.jobs["job-1"] = {
      job_json("job-1", "NotStarted", {task_json("Check", "NotStarted")}),
      job_json("job-1", "InProgress",
               {task_json("Check", "Succeeded"),
                task_json("Copy", "InProgress", 256.0 * 1024, 1024.0 * 1024)}),
      job_json("job-1", "Succeeded",
               {task_json("Check", "Succeeded"), task_json("Copy", "Succeeded")})};

  const Ran ran = farside({"protect", "web"});

  EXPECT_EQ(ran.code, kDone) << ran.err;
  EXPECT_EQ(ran.out,
            "Enable protection of web, job job-1\n"
            "  Check: Succeeded\n"
            "  Copy: InProgress, 25 % (256.0 KiB of 1.0 MiB)\n"
            "  Copy: Succeeded\n"
            "VM 'web' is protected\n");
  const Asked asked = vault_.last_change();
  EXPECT_EQ(asked.method, "PUT");
  EXPECT_THAT(asked.path, testing::EndsWith("/gold/replicationProtectedItems/id-1"));
  EXPECT_THAT(text(asked.body, "properties.protectableItemId"),
              testing::EndsWith("/replicationProtectableItems/id-1"));
  EXPECT_THAT(text(asked.body, "properties.policyId"),
              testing::EndsWith("/replicationPolicies/fast%201"));
}

TEST_F(CliTest, OnATerminalTheTasksAreRedrawnWithABar) {
  vault_.starts[""] = "job-1";
  vault_.jobs["job-1"] = {
      job_json("job-1", "InProgress", {task_json("Copy", "InProgress", 50, 100)}),
      job_json("job-1", "Succeeded", {task_json("Copy", "Succeeded")})};

  const Ran ran = farside({"protect", "web"}, /*is_terminal=*/true);

  EXPECT_EQ(ran.code, kDone) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("[..] Copy  [###############---------------]  50 %"),
                             HasSubstr("\x1b[2A"), HasSubstr("[ok] Copy")));
}

TEST_F(CliTest, WithoutWaitingTheJobsIdIsTheResult) {
  vault_.starts[""] = "job-1";

  EXPECT_THAT(farside({"protect", "web", "--no-wait"}).out, HasSubstr("farside jobs wait job-1"));
  EXPECT_EQ(Json::parse(farside({"protect", "web", "--no-wait", "--json"}).out),
            (Json{{"job", "job-1"}}));
}

TEST_F(CliTest, AFailedJobFailsTheCommandWithItsCauseAndRemedy) {
  vault_.starts[""] = "job-1";
  const Json error{{"serviceErrorDetails",
                    {{"code", "no_space"},
                     {"message", "the volume is full"},
                     {"recommendedAction", "make room on b1"}}}};
  vault_.jobs["job-1"] = {job_json("job-1", "Failed", {task_json("Copy", "Failed")}, {error})};

  const Ran people = farside({"protect", "web"});
  const Ran programs = farside({"protect", "web", "--json"});

  EXPECT_EQ(people.code, kFailed);
  EXPECT_EQ(people.err,
            "farside: Enable protection of web: Failed: the volume is full (no_space)\n"
            "next: make room on b1\n");
  EXPECT_EQ(programs.code, kFailed);
  EXPECT_EQ(Json::parse(programs.out)["properties"]["state"], "Failed");
}

// A pipe's reader, who has what was flushed and nothing else.
class Pipe final : public std::stringbuf {
 public:
  int sync() override {
    const std::lock_guard lock(mutex_);
    flushed_ = str();
    return 0;
  }
  std::string flushed() const {
    const std::lock_guard lock(mutex_);
    return flushed_;
  }

 private:
  mutable std::mutex mutex_;
  std::string flushed_;
};

Json suspended_job() {
  Json stuck = task_json("Start", "Failed");
  stuck["errors"] = {{{"serviceErrorDetails",
                       {{"code", "Platform"},
                        {"message", "domain 'db' already exists"},
                        {"recommendedAction", "remove it"}}}}};
  Json job = job_json("job-1", "Suspended", {task_json("Check", "Succeeded"), stuck},
                      {stuck["errors"][0]});
  job["properties"]["stateDescription"] = "Waits for an operator";
  return job;
}

TEST_F(CliTest, AJobThatWaitsForAnOperatorEndsTheWaitingWithACodeOfItsOwn) {
  vault_.starts["plannedFailover"] = "job-1";
  vault_.jobs["job-1"] = {job_json("job-1", "InProgress", {task_json("Check", "InProgress")}),
                          suspended_job()};

  const Ran people = farside({"planned-failover", "web"});

  EXPECT_EQ(people.code, kNeedsOperator);
  EXPECT_THAT(people.out, HasSubstr("Waits for an operator"));
  EXPECT_EQ(people.err,
            "farside: Enable protection of web: it waits for an operator: domain 'db' already "
            "exists (Platform)\n"
            "next: remove it, then `farside jobs restart job-1`\n");

  const Ran waiting = farside({"jobs", "wait", "job-1", "--json"});

  EXPECT_EQ(waiting.code, kNeedsOperator);
  EXPECT_EQ(Json::parse(waiting.out)["properties"]["state"], "Suspended");
  EXPECT_THAT(text(Json::parse(waiting.err), "error.message"), HasSubstr("already exists"));
}

TEST_F(CliTest, AJobThatMerelyTriesAgainIsWaitedFor) {
  Json trying = task_json("Start", "InProgress");
  trying["errors"] = suspended_job()["properties"]["errors"];
  vault_.jobs["job-1"] = {job_json("job-1", "InProgress", {trying}),
                          job_json("job-1", "InProgress", {trying}),
                          job_json("job-1", "Succeeded", {task_json("Start", "Succeeded")})};

  EXPECT_EQ(farside({"jobs", "wait", "job-1"}).code, kDone);
}

TEST_F(CliTest, EveryLineIsInThePipeAtOnce) {
  Pipe pipe;
  std::ostream out(&pipe);
  std::ostringstream err;
  std::string at_the_second_look;
  vault_.jobs["job-1"] = {job_json("job-1", "InProgress", {task_json("Copy", "InProgress")}),
                          suspended_job()};
  int looks = 0;
  vault_.before = [&](const Asked& asked) -> std::optional<front_door::HttpResponse> {
    if (asked.path.ends_with("/job-1") && ++looks == 2) at_the_second_look = pipe.flushed();
    return std::nullopt;
  };

  run({"jobs", "wait", "job-1", "--vault-url", vault_.url(), "--ca", vault_.ca_file(),
       "--token-file", vault_.token_file()},
      out, err, /*is_terminal=*/false);

  EXPECT_EQ(at_the_second_look, "Enable protection of web, job job-1\n  Copy: InProgress\n");
  EXPECT_THAT(pipe.flushed(), HasSubstr("Waits for an operator"));
}

TEST_F(CliTest, ShowingAJobEndsWithTheNextStepWhateverItIsAt) {
  const auto next_of = [&](Json job, const std::string& scenario = "") {
    job["properties"]["scenarioName"] = scenario;
    vault_.jobs["job-1"] = {std::move(job)};
    const std::string out = farside({"jobs", "show", "job-1"}).out;
    const auto at = out.rfind("next:  ");
    return at == std::string::npos ? "" : out.substr(at + 7);
  };
  const auto plain = [](const std::string& state) { return job_json("job-1", state, {}); };

  EXPECT_EQ(next_of(suspended_job()), "remove it, then `farside jobs restart job-1`\n");
  EXPECT_THAT(next_of(plain("Suspended")), HasSubstr("farside jobs restart job-1"));
  EXPECT_THAT(next_of(plain("InProgress")), HasSubstr("farside jobs wait job-1"));
  EXPECT_THAT(next_of(plain("Failed")), HasSubstr("start it again"));
  EXPECT_THAT(next_of(plain("Succeeded"), "PlannedFailover"), HasSubstr("farside commit web"));
  EXPECT_THAT(next_of(plain("Succeeded"), "TestFailover"), HasSubstr("farside cleanup web"));
  EXPECT_THAT(next_of(plain("Succeeded"), "Other"), HasSubstr("nothing"));
}

TEST_F(CliTest, WhatWasProbablyMeantIsSaid) {
  EXPECT_THAT(farside({"protct", "web"}).err, AllOf(HasSubstr("no command 'protct'"),
                                                    HasSubstr("did you mean `farside protect`?")));
  EXPECT_THAT(farside({"jobs", "shwo", "x"}).err, HasSubstr("did you mean `farside jobs show`?"));
  EXPECT_THAT(farside({"frobnicate"}).err, HasSubstr("its commands are vault, key"));
  EXPECT_THAT(farside({"watch", "--intervall", "3"}).err, HasSubstr("did you mean `--interval`?"));
  EXPECT_THAT(farside({"jobs"}).err, HasSubstr("farside jobs --help"));
}

TEST_F(CliTest, WrongUsageIsJsonForProgramsToo) {
  const Ran ran = farside({"--json", "protct", "web"});

  EXPECT_EQ(ran.code, kUsage);
  const Json error = Json::parse(ran.err);
  EXPECT_EQ(error["error"]["code"], "InvalidArgument");
  EXPECT_THAT(text(error, "error.advice"), HasSubstr("farside protect"));
}

TEST_F(CliTest, HelpOfACommandTellsTheOptionsOfAllAndTheVersionIsTold) {
  const Ran help = run_bare({"planned-failover", "--help"});
  const Ran verb = run_bare({"help", "planned-failover"});
  const Ran version = run_bare({"--version"});

  EXPECT_EQ(help.code, kDone);
  EXPECT_THAT(help.out, AllOf(HasSubstr("--json"), HasSubstr("--no-wait"), HasSubstr("item")));
  EXPECT_EQ(verb.out, help.out);
  EXPECT_EQ(version.code, kDone);
  EXPECT_THAT(version.out, HasSubstr("farside 0."));
  EXPECT_THAT(run_bare({"--help"}).out, HasSubstr("6 the job waits for an operator"));
}

TEST_F(CliTest, TheVaultAtAGlanceTellsWhyItIsNotWell) {
  vault_.resources[""] = {{"name", "farside"},
                          {"properties",
                           {{"farside",
                             {{"health", "Critical"},
                              {"reasons",
                               {{{"item", "id-1"},
                                 {"vm", "web"},
                                 {"errorLevel", "Error"},
                                 {"message", "no recovery point has arrived"},
                                 {"advice", "look at the link"}}}}}}}}};

  EXPECT_THAT(farside({"vault"}).out,
              AllOf(HasSubstr("Critical"), HasSubstr("web: no recovery point has arrived"),
                    HasSubstr("next: look at the link")));
}

TEST_F(CliTest, ANameThatFitsSeveralIsNotGuessed) {
  const Ran ran = farside({"protect", "twin"});

  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(ran.err, HasSubstr("west/gold, east/silver"));
  EXPECT_EQ(vault_.last_change().method, "");
  vault_.starts[""] = "job-1";
  EXPECT_EQ(farside({"protect", "twin", "--site", "west", "--no-wait"}).code, kDone);
}

TEST_F(CliTest, ATestFailoverNamesPointAndNetworkOfTheOtherSite) {
  vault_.starts["testFailover"] = "job-1";

  ASSERT_EQ(
      farside({"test-failover", "WEB", "--point", "17", "--network", "lab", "--no-wait"}).code,
      kDone);
  const Asked asked = vault_.last_change();
  ASSERT_EQ(farside({"test-failover", "west/gold/id-1", "--no-wait"}).code, kDone);
  const Asked plain = vault_.last_change();

  EXPECT_THAT(asked.path, testing::EndsWith("/replicationProtectedItems/id-1/testFailover"));
  const Json& properties = asked.body["properties"];
  EXPECT_EQ(properties["failoverDirection"], "PrimaryToRecovery");
  EXPECT_EQ(properties["networkType"], "VmNetworkAsInput");
  EXPECT_THAT(text(properties, "networkId"),
              testing::EndsWith("/replicationFabrics/east/replicationNetworks/lab"));
  EXPECT_EQ(properties["farside"]["recoveryPoint"], "17");
  EXPECT_EQ(plain.body["properties"]["networkType"], "NoNetworkAttachAsInput");
}

TEST_F(CliTest, AFailoverGoesTheWayThatLeadsBackOnceTheOtherSideIsActive) {
  vault_.lists["replicationprotecteditems"][0]["properties"]["activeLocation"] = "Recovery";
  vault_.starts["plannedFailover"] = "job-1";

  ASSERT_EQ(farside({"planned-failover", "web", "--no-wait"}).code, kDone);

  EXPECT_EQ(text(vault_.last_change().body, "properties.failoverDirection"), "RecoveryToPrimary");
}

TEST_F(CliTest, CommitAndCleanupReachTheirActions) {
  ASSERT_EQ(farside({"commit", "web"}).code, kDone);
  EXPECT_THAT(vault_.last_change().path, testing::EndsWith("/failoverCommit"));
  ASSERT_EQ(farside({"cleanup", "web", "--notes", "fine"}).code, kDone);
  EXPECT_EQ(vault_.last_change().body, (Json{{"properties", {{"comments", "fine"}}}}));
  ASSERT_EQ(farside({"unprotect", "web"}).code, kDone);
  EXPECT_THAT(vault_.last_change().path, testing::EndsWith("/remove"));
  ASSERT_EQ(farside({"unprotect", "web", "--force"}).code, kDone);
  EXPECT_EQ(vault_.last_change().method, "DELETE");
}

TEST_F(CliTest, PauseResumeRetryAndResyncReachTheirActions) {
  for (const std::string action : {"pause", "resume", "retry", "resync"}) {
    const Ran ran = farside({action, "web"});

    ASSERT_EQ(ran.code, kDone) << ran.err;
    EXPECT_EQ(vault_.last_change().method, "POST");
    EXPECT_THAT(vault_.last_change().path,
                testing::EndsWith("/replicationProtectedItems/id-1/farside/" + action));
    EXPECT_THAT(ran.out, HasSubstr("replication of 'web'"));
  }
  EXPECT_EQ(farside({"pause", "nobody"}).code, kMissing);
}

TEST_F(CliTest, APlanIsATableOfWhatWillDiffer) {
  vault_.lists
      ["replicationfabrics/west/replicationprotectioncontainers/gold/replicationprotecteditems/"
       "id-1/farside/plan"] = {{{"what", "memory"},
                                {"rule", "kept"},
                                {"source", "160 MiB"},
                                {"target", "160 MiB"},
                                {"note", ""}},
                               {{"what", "display"},
                                {"rule", "dropped"},
                                {"source", "VNC"},
                                {"target", ""},
                                {"note", "no display at the target"}}};

  const Ran ran = farside({"vm", "plan", "web"});

  ASSERT_EQ(ran.code, kDone) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("WHAT"), HasSubstr("RULE"), HasSubstr("160 MiB"),
                             HasSubstr("dropped"), HasSubstr("no display at the target")));
}

TEST_F(CliTest, AnItemTellsOfPausesProofsAndDrillsThatNobodySawAlive) {
  auto item = item_json("west", "gold", "id-1", "web");
  auto& properties = item["properties"];
  properties["lastSuccessfulTestFailoverTime"] = "2026-03-01T12:00:00.0000000Z";
  properties["farside"]["drill"] = "Succeeded, not confirmed";
  properties["farside"]["pausedAt"] = "2026-03-02T12:00:00.0000000Z";
  properties["farside"]["proofFault"] = {{"what", "duplicate device"}, {"advice", "look"}};
  vault_.lists["replicationprotecteditems"] = {item};

  const Ran ran = farside({"item", "show", "web"});

  EXPECT_THAT(ran.out, AllOf(HasSubstr("2026-03-01 12:00:00, Succeeded, not confirmed"),
                             HasSubstr("since 2026-03-02 12:00:00"),
                             HasSubstr("could not be failed over now: duplicate device")));
}

TEST_F(CliTest, AJobsListDoesNotCallADrillSucceededThatNobodySawAlive) {
  auto drill = job_json("job-1", "Succeeded", {});
  drill["properties"]["stateDescription"] = "Succeeded, not confirmed";
  vault_.lists["replicationjobs"] = {drill};

  EXPECT_THAT(farside({"jobs", "list"}).out, HasSubstr("Succeeded, not confirmed"));
}

TEST_F(CliTest, AnUnknownItemIsNotFound) {
  EXPECT_EQ(farside({"points", "nobody"}).code, kMissing);
}

TEST_F(CliTest, WaitingSurvivesAVaultThatRestarts) {
  vault_.jobs["job-1"] = {job_json("job-1", "InProgress", {task_json("Copy", "InProgress")}),
                          job_json("job-1", "InProgress", {task_json("Copy", "InProgress")}),
                          job_json("job-1", "Succeeded", {task_json("Copy", "Succeeded")})};
  std::jthread restart([this] {
    while (vault_.asked().empty()) pause_for(std::chrono::milliseconds(1));
    vault_.stop();
    pause_for(std::chrono::milliseconds(500));
    vault_.start();
  });

  const Ran ran = farside({"jobs", "wait", "job-1"});

  EXPECT_EQ(ran.code, kDone) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("the vault does not answer"));
}

TEST_F(CliTest, JobsAreFilteredByTheVaultAndShownWithTheirErrors) {
  vault_.lists["replicationjobs"] = {job_json("job-1", "Failed", {})};
  vault_.jobs["job-1"] = {job_json(
      "job-1", "Failed", {task_json("Copy", "Failed")},
      {{{"serviceErrorDetails",
         {{"code", "io"}, {"message", "disk gone"}, {"recommendedAction", "replace it"}}}}})};

  const Ran list = farside({"jobs", "list", "--state", "Failed"});
  EXPECT_THAT(list.out, HasSubstr("job-1"));
  EXPECT_EQ(front_door::Query::parse(vault_.asked().back().query)->text("$filter"),
            "JobStatus eq 'Failed'");

  const Ran show = farside({"jobs", "show", "job-1"});
  EXPECT_THAT(show.out, AllOf(HasSubstr("[!!] Copy: Failed"), HasSubstr("disk gone (io)"),
                              HasSubstr("replace it")));
}

TEST_F(CliTest, WatchShowsProgressFaultsAndRunningJobs) {
  vault_.lists["replicationjobs"] = {
      job_json("job-1", "InProgress", {task_json("Copy", "InProgress", 1, 2)})};

  const Ran ran = farside({"watch"});

  EXPECT_EQ(ran.code, kDone) << ran.err;
  EXPECT_THAT(ran.out,
              AllOf(HasSubstr("west/gold -> east/silver"),
                    HasSubstr("[##########----------]  50 %"), HasSubstr("web: the link is down"),
                    HasSubstr("next: mend it"), HasSubstr("[..] Copy")));
}

TEST_F(CliTest, WatchShowsAJobThatWaitsForAnOperatorAndWhyHealthIsBad) {
  auto& properties = vault_.lists["replicationprotecteditems"][0]["properties"];
  properties["currentScenario"] = {{"scenarioName", "PlannedFailover"},
                                   {"jobId", TestVault::path("/replicationJobs/job-1")}};
  properties["replicationHealth"] = "Critical";
  properties["healthErrors"] = {
      {{"errorMessage", "the RPO is missed"}, {"recommendedAction", "look at the link"}}};
  vault_.jobs["job-1"] = {suspended_job()};

  const Ran ran = farside({"watch"});

  EXPECT_THAT(ran.out,
              AllOf(HasSubstr("WAITS FOR AN OPERATOR"), HasSubstr("[!!] Start"),
                    HasSubstr("web: the RPO is missed"), HasSubstr("next: look at the link")));
}

TEST_F(CliTest, AnAnswerThatIsNotAVaultsIsTold) {
  vault_.before = [](const Asked&) {
    return front_door::HttpResponse{.status = 200, .headers = {}, .body = "<html>"};
  };

  const Ran ran = farside({"site", "list"});

  EXPECT_EQ(ran.code, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("JSON"));
}

// What bash itself makes of the script, for the words typed so far.
std::string completions(const std::string& script, const std::string& words, int index) {
  const std::string command = "bash -c 'source " + script + "; COMP_WORDS=(" + words +
                              "); COMP_CWORD=" + std::to_string(index) +
                              "; _farside; echo ${COMPREPLY[@]}'";
  std::string out;
  FILE* pipe = ::popen(command.c_str(), "r");
  std::array<char, 512> part{};
  while (std::fgets(part.data(), part.size(), pipe) != nullptr) out += part.data();
  EXPECT_EQ(::pclose(pipe), 0);
  return out;
}

TEST_F(CliTest, TheCompletionScriptWorksInBash) {
  const Ran ran = run_bare({"completion", "bash"});
  ASSERT_EQ(ran.code, kDone);
  const std::string script = vault_.folder() + "/completion";
  std::ofstream(script) << ran.out;

  EXPECT_THAT(completions(script, "farside pl", 1), HasSubstr("planned-failover"));
  EXPECT_THAT(completions(script, "farside vm l", 2), HasSubstr("list"));
  EXPECT_THAT(completions(script, "farside --vault-url x vm l", 4), HasSubstr("list"));
  EXPECT_THAT(completions(script, "farside policy create gold --e", 4), HasSubstr("--every"));
  EXPECT_THAT(completions(script, "farside jobs \"\"", 2), Not(HasSubstr("protect")));
}

}  // namespace
}  // namespace farside::cli
