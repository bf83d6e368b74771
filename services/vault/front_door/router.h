// From a verb and a path to the operation that serves it: one table, scanned by segment count.
//
// Fixed segments match without regard to case, `{name}` takes any one non-empty segment, decoded.
// Where two patterns match, the one whose first difference is a fixed segment wins, so that
// "jobs/export" goes before "jobs/{job}".  Immutable once built; thread: any.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "services/vault/front_door/arm_errors.h"
#include "services/vault/front_door/uri.h"

namespace farside::front_door {

using PathValues = std::map<std::string, std::string>;  // "jobName" -> decoded segment.

class PathPattern final {
 public:
  explicit PathPattern(std::string_view pattern);  // "/subscriptions/{s}/…": a constant of ours.

  std::size_t size() const { return segments_.size(); }
  bool matches(const std::vector<std::string_view>& segments) const;
  PathValues values(const std::vector<std::string>& decoded) const;
  bool goes_before(const PathPattern& other) const;  // Of two that match the same path.

 private:
  struct Segment {
    std::string text;
    bool is_value = false;
  };
  std::vector<Segment> segments_;
};

// "/a/b/" -> {"a", "b"}; views into `path`.
std::vector<std::string_view> path_segments(std::string_view path);

// The api-version of a request, any "2021-06-01" or "2021-06-01-preview".
// Errors: as an ARM error response, 400 MissingApiVersionParameter or InvalidApiVersionParameter.
std::expected<std::string, HttpResponse> required_api_version(const Query& query);

HttpResponse no_such_path(std::string_view path);
HttpResponse method_not_allowed(std::string_view verb, std::string_view path,
                                const std::string& allowed);

template <class Handler>
class Router final {
 public:
  struct Route {
    std::string_view verb;       // "GET"
    std::string_view pattern;    // "/subscriptions/{s}/…/replicationJobs/{jobName}"
    std::string_view operation;  // For logs, audit and metrics: "replicationJobs.get"
    Handler handler;
  };
  struct Match {
    const Route* route;
    PathValues values;
  };

  explicit Router(std::vector<Route> routes) : routes_(std::move(routes)) {
    for (std::size_t i = 0; i < routes_.size(); ++i) {
      patterns_.emplace_back(routes_[i].pattern);
      by_size_[patterns_.back().size()].push_back(i);
    }
  }

  const std::vector<Route>& routes() const { return routes_; }

  // Errors, as ARM error responses: 404 ResourceNotFound (no such path), 405 MethodNotAllowed with
  // an Allow header, 400 InvalidParameter (a broken percent escape).
  std::expected<Match, HttpResponse> match(std::string_view verb, std::string_view path) const {
    const std::vector<std::string_view> segments = path_segments(path);
    std::vector<std::string> decoded;
    for (const std::string_view segment : segments) {
      auto text = percent_decoded(segment);
      if (!text) return std::unexpected(arm_error(text.error()));
      decoded.push_back(std::move(*text));
    }
    std::optional<std::size_t> best;
    std::string allowed;
    if (const auto group = by_size_.find(segments.size()); group != by_size_.end()) {
      for (const std::size_t i : group->second) {
        if (!patterns_[i].matches(segments)) continue;
        if (routes_[i].verb != verb) {
          if (!allowed.contains(routes_[i].verb)) {
            allowed += (allowed.empty() ? "" : ", ") + std::string(routes_[i].verb);
          }
        } else if (!best || patterns_[i].goes_before(patterns_[*best])) {
          best = i;
        }
      }
    }
    if (best) return Match{.route = &routes_[*best], .values = patterns_[*best].values(decoded)};
    if (!allowed.empty()) return std::unexpected(method_not_allowed(verb, path, allowed));
    return std::unexpected(no_such_path(path));
  }

 private:
  std::vector<Route> routes_;
  std::vector<PathPattern> patterns_;
  std::map<std::size_t, std::vector<std::size_t>> by_size_;
};

}  // namespace farside::front_door
