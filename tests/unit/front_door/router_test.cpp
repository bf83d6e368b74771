#include "services/vault/front_door/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "services/vault/front_door/lro.h"

namespace farside::front_door {
namespace {

using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

const Router<int>& table() {
  static const Router<int> kTable({
      {"GET", "/subscriptions/{s}/resourceGroups/{g}/vaults/{v}/replicationJobs", "jobs.list", 1},
      {"GET", "/subscriptions/{s}/resourceGroups/{g}/vaults/{v}/replicationJobs/{jobName}",
       "jobs.get", 2},
      {"POST", "/subscriptions/{s}/resourceGroups/{g}/vaults/{v}/replicationJobs/{jobName}/cancel",
       "jobs.cancel", 3},
      {"POST", "/subscriptions/{s}/resourceGroups/{g}/vaults/{v}/replicationJobs/export",
       "jobs.export", 4},
      {"POST", "/subscriptions/{s}/resourceGroups/{g}/vaults/{v}/replicationJobs/{jobName}",
       "jobs.touch", 5},
      {"PUT", "/subscriptions/{s}/resourceGroups/{g}/vaults/{v}/replicationPolicies/{policyName}",
       "policies.create", 6},
      {"DELETE",
       "/subscriptions/{s}/resourceGroups/{g}/vaults/{v}/replicationPolicies/{policyName}",
       "policies.delete", 7},
  });
  return kTable;
}

nlohmann::json error_of(const HttpResponse& response) {
  return nlohmann::json::parse(response.body).at("error");
}

TEST(RouterTest, FixedSegmentsIgnoreCaseAndValuesKeepTheirs) {
  const auto match =
      table().match("GET", "/Subscriptions/SUB/ResourceGroups/Rg/Vaults/V/replicationjobs/JoB-1");

  ASSERT_TRUE(match);
  EXPECT_EQ(match->route->handler, 2);
  EXPECT_EQ(match->route->operation, "jobs.get");
  EXPECT_THAT(match->values, UnorderedElementsAre(Pair("s", "SUB"), Pair("g", "Rg"), Pair("v", "V"),
                                                  Pair("jobName", "JoB-1")));
}

TEST(RouterTest, ValuesArePercentDecoded) {
  const auto match = table().match(
      "PUT", "/subscriptions/s/resourceGroups/g/vaults/v/replicationPolicies/pol%201%20%C3%A9%2Fx");

  ASSERT_TRUE(match);
  EXPECT_EQ(match->values.at("policyName"), "pol 1 é/x");
}

TEST(RouterTest, AFixedSegmentGoesBeforeAValueWhateverTheirOrderInTheTable) {
  const std::string jobs = "/subscriptions/s/resourceGroups/g/vaults/v/replicationJobs/";

  EXPECT_EQ(table().match("POST", jobs + "Export")->route->handler, 4);
  EXPECT_EQ(table().match("POST", jobs + "other")->route->handler, 5);
}

TEST(RouterTest, ATrailingSlashChangesNothing) {
  EXPECT_EQ(table()
                .match("GET", "/subscriptions/s/resourceGroups/g/vaults/v/replicationJobs/")
                ->route->handler,
            1);
}

TEST(RouterTest, AnUnknownPathIs404) {
  for (const char* path : {"/", "", "/nowhere", "//", "/subscriptions//resourceGroups/g/vaults/v",
                           "/subscriptions/s/resourceGroups/g/vaults/v/replicationJobs/j/cancel/x",
                           "/subscriptions/s/resourceGroups//vaults/v/replicationJobs"}) {
    const auto match = table().match("GET", path);
    ASSERT_FALSE(match) << path;
    EXPECT_EQ(match.error().status, 404) << path;
    EXPECT_EQ(error_of(match.error()).at("code"), "ResourceNotFound") << path;
  }
}

TEST(RouterTest, AKnownPathWithAnotherVerbIs405AndTellsWhichAreAllowed) {
  const auto match =
      table().match("GET", "/subscriptions/s/resourceGroups/g/vaults/v/replicationPolicies/p");

  ASSERT_FALSE(match);
  EXPECT_EQ(match.error().status, 405);
  EXPECT_EQ(error_of(match.error()).at("code"), "MethodNotAllowed");
  EXPECT_THAT(match.error().headers, testing::Contains(Pair("Allow", "PUT, DELETE")));
}

TEST(RouterTest, ABrokenEscapeOrAControlCharacterIs400) {
  for (const char* path : {"/a%", "/a%2", "/a%zz", "/a%00b", "/a%0ab", "/a\tb"}) {
    const auto match = table().match("GET", path);
    ASSERT_FALSE(match) << path;
    EXPECT_EQ(match.error().status, 400) << path;
  }
}

TEST(QueryTest, DecodesAndIgnoresTheCaseOfNames) {
  const auto query = Query::parse(
      "api-version=2023-06-01&%24filter=JobStatus%20eq%20'InProgress'&skipToken=a+b&flag&&x=1=2");

  ASSERT_TRUE(query);
  EXPECT_EQ(query->text("API-Version"), "2023-06-01");
  EXPECT_EQ(query->text("$filter"), "JobStatus eq 'InProgress'");
  EXPECT_EQ(query->text("skipToken"), "a b");
  EXPECT_EQ(query->text("flag"), "");
  EXPECT_TRUE(query->find("flag"));
  EXPECT_EQ(query->text("x"), "1=2");
  EXPECT_FALSE(query->find("absent"));
  EXPECT_FALSE(Query::parse("a=%g1"));
}

TEST(ApiVersionTest, IsRequiredAndMayBeAnyDate) {
  for (const char* good : {"2016-08-10", "2023-06-01", "2025-08-01", "2024-02-01-preview"}) {
    EXPECT_EQ(required_api_version(*Query::parse(std::string("api-version=") + good)), good);
  }
  const auto missing = required_api_version(*Query::parse(""));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().status, 400);
  EXPECT_EQ(error_of(missing.error()).at("code"), "MissingApiVersionParameter");
  for (const char* bad : {"latest", "2023-6-1", "1999-01-01", "2023-06-01-beta", "2023-06-01x"}) {
    const auto version = required_api_version(*Query::parse(std::string("api-version=") + bad));
    ASSERT_FALSE(version) << bad;
    EXPECT_EQ(error_of(version.error()).at("code"), "InvalidApiVersionParameter") << bad;
  }
}

TEST(ArmErrorTest, CarriesCodeMessageAndAdvice) {
  const HttpResponse response = arm_error(Error{.code = ErrorCode::kNotFound,
                                                .what = "VM 'web' is not at site \"a\"",
                                                .advice = "see `farside vm list`"});

  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.body,
            R"({"error":{"code":"ResourceNotFound","message":"VM 'web' is not at site \"a\"",)"
            R"("details":[{"code":"RecommendedAction","message":"see `farside vm list`"}]}})");
}

TEST(ArmErrorTest, BytesThatAreNotTextDoNotBreakTheBody) {
  const HttpResponse response =
      arm_error(Error{.code = ErrorCode::kInvalidArgument, .what = "no '\xff\xfe'", .advice = ""});

  EXPECT_TRUE(nlohmann::json::accept(response.body));
}

TEST(ArmErrorTest, EveryCodeOfOursHasAStatusThatSaysWhoseFaultItIs) {
  EXPECT_EQ(http_status(ErrorCode::kInvalidArgument), 400);
  EXPECT_EQ(http_status(ErrorCode::kUnauthorized), 401);
  EXPECT_EQ(http_status(ErrorCode::kForbidden), 403);
  EXPECT_EQ(http_status(ErrorCode::kConflict), 409);
  EXPECT_EQ(http_status(ErrorCode::kTooLarge), 413);
  EXPECT_EQ(http_status(ErrorCode::kInternal), 500);
  EXPECT_EQ(http_status(ErrorCode::kUnavailable), 503);
  EXPECT_EQ(http_status(ErrorCode::kTimeout), 504);
}

TEST(LroTest, PointsToTheOperationAndToItsResult) {
  const HttpResponse response =
      accepted({.host = "vault:8443",
                .vault_path = "/Subscriptions/s/resourceGroups/g/vaults/v",
                .resource = "/Subscriptions/s/resourceGroups/g/vaults/v/replicationPolicies/p",
                .job = "0f8b",
                .api_version = "2023-06-01"});

  EXPECT_EQ(response.status, 202);
  EXPECT_EQ(response.body, "");
  EXPECT_THAT(
      response.headers,
      UnorderedElementsAre(
          Pair("Azure-AsyncOperation",
               "https://vault:8443/Subscriptions/s/resourceGroups/g/vaults/v/"
               "replicationOperationStatus/0f8b?api-version=2023-06-01"),
          Pair("Location",
               "https://vault:8443/Subscriptions/s/resourceGroups/g/vaults/v/replicationPolicies/"
               "p/operationresults/0f8b?api-version=2023-06-01"),
          Pair("Retry-After", "1"),
          Pair("x-ms-request-id",
               "/Subscriptions/s/resourceGroups/g/vaults/v/replicationJobs/0f8b")));
}

}  // namespace
}  // namespace farside::front_door
