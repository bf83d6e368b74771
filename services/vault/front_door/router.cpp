#include "services/vault/front_door/router.h"

#include <fmt/format.h>

#include "common/base/assert.h"

namespace farside::front_door {
namespace {

bool is_api_version(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-dd";
  if (text.ends_with("-preview")) text.remove_suffix(8);
  if (text.size() != kShape.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_digit = text[i] >= '0' && text[i] <= '9';
    if (kShape[i] == 'd' ? !is_digit : text[i] != kShape[i]) return false;
  }
  return text.starts_with("20");
}

}  // namespace

std::vector<std::string_view> path_segments(std::string_view path) {
  std::vector<std::string_view> segments;
  if (path.starts_with('/')) path.remove_prefix(1);
  if (path.ends_with('/')) path.remove_suffix(1);
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    segments.push_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return segments;
}

PathPattern::PathPattern(std::string_view pattern) {
  for (const std::string_view segment : path_segments(pattern)) {
    FARSIDE_ASSERT(!segment.empty());
    if (segment.starts_with('{')) {
      FARSIDE_ASSERT(segment.ends_with('}'));
      segments_.push_back(
          {.text = std::string(segment.substr(1, segment.size() - 2)), .is_value = true});
    } else {
      segments_.push_back({.text = std::string(segment), .is_value = false});
    }
  }
}

bool PathPattern::matches(const std::vector<std::string_view>& segments) const {
  if (segments.size() != segments_.size()) return false;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].empty()) return false;
    if (!segments_[i].is_value && !equal_ignoring_case(segments_[i].text, segments[i])) {
      return false;
    }
  }
  return true;
}

PathValues PathPattern::values(const std::vector<std::string>& decoded) const {
  PathValues values;
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    if (segments_[i].is_value) values[segments_[i].text] = decoded[i];
  }
  return values;
}

bool PathPattern::goes_before(const PathPattern& other) const {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    if (segments_[i].is_value != other.segments_[i].is_value) return other.segments_[i].is_value;
  }
  return false;
}

std::expected<std::string, HttpResponse> required_api_version(const Query& query) {
  const auto version = query.find("api-version");
  if (!version || version->empty()) {
    return std::unexpected(
        arm_error(ArmError{.status = 400,
                           .code = "MissingApiVersionParameter",
                           .message = "The api-version query parameter (?api-version=) is required "
                                      "for all requests.",
                           .advice = "add ?api-version=2023-06-01"}));
  }
  if (!is_api_version(*version)) {
    return std::unexpected(
        arm_error(ArmError{.status = 400,
                           .code = "InvalidApiVersionParameter",
                           .message = fmt::format("The api-version '{}' is not a date.", *version),
                           .advice = "write it as ?api-version=2023-06-01"}));
  }
  return *version;
}

HttpResponse no_such_path(std::string_view path) {
  return arm_error(
      ArmError{.status = 404,
               .code = "ResourceNotFound",
               .message = fmt::format("There is nothing at '{}'.", path.substr(0, 500)),
               .advice = "compare the path with the API description"});
}

HttpResponse method_not_allowed(std::string_view verb, std::string_view path,
                                const std::string& allowed) {
  HttpResponse response = arm_error(
      ArmError{.status = 405,
               .code = "MethodNotAllowed",
               .message = fmt::format("'{}' does not take {}.", path.substr(0, 500), verb),
               .advice = "allowed here: " + allowed});
  response.headers.emplace_back("Allow", allowed);
  return response;
}

}  // namespace farside::front_door
