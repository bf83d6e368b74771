// Small pieces that every resource is made of.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "services/vault/rest/rest.h"

namespace farside::vault {

// What a request says: an object, or null if it has no body; to create or change something there
// must be one.  Errors: kInvalidArgument, also where it is nested deeper than kJsonDepthMax.
Result<Json> body_of(const msg::HttpRequest& http);
inline constexpr std::size_t kJsonDepthMax = 64;

// ARM dates: ISO 8601 with seven digits; zero is how the original says "not yet".
std::string arm_time(std::int64_t micros);

HttpResponse ok(const Json& body, int status = 200);
HttpResponse no_content();

// {"value": [...], "nextLink": null}
HttpResponse listing(Json values);

// {"id", "name", "type", "properties"}
Json resource(const std::string& id, const std::string& name, std::string_view type,
              Json properties);

// "…/replicationPolicies/gold/…" -> "gold"; case-insensitive, decoded.
std::optional<std::string> segment_after(std::string_view arm_id, std::string_view collection);

// Paths under a vault.
std::string fabric_path(const Call& call, const std::string& site);
std::string container_path(const Call& call, const std::string& site, const std::string& cloud);
std::string network_path(const Call& call, const std::string& site, const std::string& network);
std::string policy_path(const Call& call, const std::string& policy);
std::string item_path(const Call& call, const msg::ProtectedItem& item);
std::string job_path(const Call& call, const std::string& job);

// The recovery point a text names; 0 is the newest, as are "" and "latest".
// Errors: kInvalidArgument.
Result<std::uint64_t> point_from(const std::string& text);

std::string_view health_text(msg::Health health);

}  // namespace farside::vault
