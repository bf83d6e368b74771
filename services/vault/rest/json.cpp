#include "services/vault/rest/json.h"

#include <fmt/format.h>

#include <algorithm>

#include "services/vault/front_door/uri.h"

namespace farside::vault {
namespace {

// As far as brackets tell, which is before anything is made of them.
std::size_t depth_of(std::string_view text) {
  std::size_t depth = 0;
  std::size_t deepest = 0;
  bool is_text = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_text) {
      if (c == '\\') ++i;
      if (c == '"') is_text = false;
      continue;
    }
    if (c == '"') is_text = true;
    if (c == '{' || c == '[') deepest = std::max(deepest, ++depth);
    if ((c == '}' || c == ']') && depth > 0) --depth;
  }
  return deepest;
}

std::unexpected<Error> refuse(std::string what) {
  return fail(ErrorCode::kInvalidArgument, std::move(what),
              "send one JSON object, as the API describes it");
}

}  // namespace

using front_door::percent_encoded;

Result<Json> body_of(const msg::HttpRequest& http) {
  if (http.body.empty()) {
    if (http.method != "PUT" && http.method != "PATCH") return Json{};
    return refuse("the request has no body");
  }
  if (depth_of(http.body) > kJsonDepthMax) {
    return refuse(fmt::format("the request's body is nested deeper than {}", kJsonDepthMax));
  }
  Json body = Json::parse(http.body, nullptr, /*allow_exceptions=*/false);
  if (body.is_discarded()) return refuse("the request's body is not JSON");
  if (!body.is_object()) {
    return refuse(fmt::format("the request's body is JSON but no object: {}", body.type_name()));
  }
  return body;
}

std::string arm_time(std::int64_t micros) {
  if (micros == 0) return "0001-01-01T00:00:00";
  auto text = to_iso(Time{micros});
  text.insert(text.size() - 1, "0");
  return text;
}

HttpResponse ok(const Json& body, int status) {
  return HttpResponse{.status = status,
                      .headers = {},
                      .body = body.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

HttpResponse no_content() {
  return HttpResponse{.status = 204, .headers = {}, .body = {}};
}

HttpResponse listing(Json values) {
  if (values.is_null()) values = Json::array();
  return ok(Json{{"value", std::move(values)}, {"nextLink", nullptr}});
}

Json resource(const std::string& id, const std::string& name, std::string_view type,
              Json properties) {
  return Json{{"id", id},
              {"name", name},
              {"type", "Microsoft.RecoveryServices/vaults/" + std::string(type)},
              {"properties", std::move(properties)}};
}

std::optional<std::string> segment_after(std::string_view arm_id, std::string_view collection) {
  const auto segments = front_door::path_segments(arm_id);
  for (std::size_t i = 0; i + 1 < segments.size(); ++i) {
    if (!front_door::equal_ignoring_case(segments[i], collection)) continue;
    auto decoded = front_door::percent_decoded(segments[i + 1]);
    if (decoded) return std::move(*decoded);
  }
  return std::nullopt;
}

std::string fabric_path(const Call& call, const std::string& site) {
  return call.vault_path + "/replicationFabrics/" + percent_encoded(site);
}
std::string container_path(const Call& call, const std::string& site, const std::string& cloud) {
  return fabric_path(call, site) + "/replicationProtectionContainers/" + percent_encoded(cloud);
}
std::string network_path(const Call& call, const std::string& site, const std::string& network) {
  return fabric_path(call, site) + "/replicationNetworks/" + percent_encoded(network);
}
std::string policy_path(const Call& call, const std::string& policy) {
  return call.vault_path + "/replicationPolicies/" + percent_encoded(policy);
}
std::string item_path(const Call& call, const msg::ProtectedItem& item) {
  return container_path(call, item.source_site, item.source_cloud) + "/replicationProtectedItems/" +
         percent_encoded(item.name);
}
std::string job_path(const Call& call, const std::string& job) {
  return call.vault_path + "/replicationJobs/" + job;
}

std::string_view health_text(msg::Health health) {
  switch (health) {
    case msg::Health::normal:
      return "Normal";
    case msg::Health::warning:
      return "Warning";
    case msg::Health::critical:
      return "Critical";
    case msg::Health::unknown:
      break;
  }
  return "None";
}

}  // namespace farside::vault
