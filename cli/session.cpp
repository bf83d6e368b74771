#include "cli/session.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/format.h"

namespace farside::cli {
namespace {

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string place_of(const Json& item) {
  return text(item, "properties.primaryFabricFriendlyName") + "/" +
         text(item, "properties.primaryProtectionContainerFriendlyName") + "/" + text(item, "name");
}

}  // namespace

void Session::show(const Json& value, const std::string& words) {
  if (settings.json) {
    screen.say(value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  } else {
    screen.say(words);
  }
}

void Session::show(const std::vector<Json>& values, const std::string& words) {
  show(Json(values), words);
}

Status Session::finish(const Result<Outcome>& outcome, const std::string& done) {
  if (!outcome) return fail(outcome.error());
  if (outcome->job.empty()) {
    show(outcome->body.is_null() ? Json::object() : outcome->body, done + "\n");
    return {};
  }
  if (!wait) {
    show(Json{{"job", outcome->job}},
         fmt::format("job {0} started; follow it with `farside jobs wait {0}`\n", outcome->job));
    return {};
  }
  FARSIDE_ASSIGN(const Json job, wait_for_job(vault, paths, outcome->job, screen, clock,
                                              /*quiet=*/settings.json));
  if (settings.json) show(job, "");
  needs_operator = waits_for_operator(job);
  if (!has_succeeded(job)) return fail(error_of_job(job));
  if (!settings.json) screen.say(done + "\n");
  return {};
}

Result<std::pair<std::string, std::string>> split_place(const std::string& text,
                                                        const std::string& what) {
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == text.size()) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{} '{}' is not SITE/NAME", what, text),
                "write the site, a slash and the name: `farside site show SITE` lists them");
  }
  return std::pair(text.substr(0, slash), text.substr(slash + 1));
}

Result<Json> find_item(Session& session, const std::string& name) {
  if (name.starts_with('/')) return session.vault.get(name);
  FARSIDE_ASSIGN(const std::vector<Json> all,
                 session.vault.list(session.paths.under("replicationProtectedItems")));
  std::vector<const Json*> found;
  for (const Json& item : all) {
    const bool fits = same_name(text(item, "name"), name) ||
                      same_name(text(item, "properties.friendlyName"), name) ||
                      same_name(place_of(item), name);
    if (fits) found.push_back(&item);
  }
  if (found.empty()) {
    return fail(ErrorCode::kNotFound, fmt::format("nothing protected is called '{}'", name),
                "list what is with `farside item list`");
  }
  if (found.size() > 1) {
    std::string places;
    for (const Json* item : found) places += (places.empty() ? "" : ", ") + place_of(*item);
    return fail(ErrorCode::kInvalidArgument, fmt::format("several items are called '{}'", name),
                "say which: " + places);
  }
  return *found.front();
}

std::string route_of(const Json& item) {
  const std::string primary = text(item, "properties.primaryFabricFriendlyName") + "/" +
                              text(item, "properties.primaryProtectionContainerFriendlyName");
  const std::string recovery = text(item, "properties.recoveryFabricFriendlyName") + "/" +
                               text(item, "properties.recoveryProtectionContainerFriendlyName");
  const bool moved = text(item, "properties.activeLocation") == "Recovery";
  return moved ? recovery + " (was " + primary + ")" : primary + " -> " + recovery;
}

}  // namespace farside::cli
