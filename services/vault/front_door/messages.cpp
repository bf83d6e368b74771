#include "services/vault/front_door/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>

#include "common/base/random.h"
#include "services/vault/front_door/arm_errors.h"

namespace farside::front_door {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::size_t kClientIdBytesMax = 100;

std::string text_of(beast::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

std::string only(const RequestHeader& header, http::field name) {
  return header.count(name) == 1 ? text_of(header[name]) : std::string{};
}

HttpRequest to_request(RequestMessage&& in, std::string remote) {
  HttpRequest out;
  const std::string target = text_of(in.target());
  const std::size_t question = std::min(target.find('?'), target.size());
  out.method = text_of(in.method_string());
  out.path = target.substr(0, question);
  out.query = target.substr(std::min(question + 1, target.size()));
  out.host = text_of(in[http::field::host]);
  out.authorization = only(in, http::field::authorization);
  out.client_request_id = text_of(in["x-ms-client-request-id"]).substr(0, kClientIdBytesMax);
  out.body = std::move(in.body());
  out.remote = std::move(remote);
  return out;
}

ResponseMessage to_message(HttpResponse&& in, const std::string& client_request_id,
                           bool keep_alive) {
  ResponseMessage out;
  out.version(11);
  out.result(static_cast<unsigned>(in.status));
  const std::string id = SystemRandom().uuid();
  out.set("x-ms-request-id", id);
  out.set("x-ms-correlation-request-id", id);
  out.set("x-ms-routing-request-id", "FARSIDE:" + id);
  if (!client_request_id.empty()) out.set("x-ms-client-request-id", client_request_id);
  out.set(http::field::cache_control, "no-cache");
  out.set(http::field::pragma, "no-cache");
  out.set(http::field::expires, "-1");
  // Not for other hosts below this one's name: they are somebody else's.
  out.set(http::field::strict_transport_security, "max-age=31536000");
  out.set("X-Content-Type-Options", "nosniff");
  out.set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
  out.set("X-Frame-Options", "DENY");
  out.set("Referrer-Policy", "no-referrer");
  if (!in.body.empty()) out.set(http::field::content_type, in.content_type);
  for (const auto& [name, value] : in.headers) out.set(name, value);
  out.keep_alive(keep_alive);
  out.body() = std::move(in.body);
  out.prepare_payload();
  return out;
}

std::optional<HttpResponse> framing_error(const RequestHeader& header) {
  const auto codings = header.count(http::field::transfer_encoding);
  if (codings == 0) return std::nullopt;
  if (header.count(http::field::content_length) != 0) {
    return arm_error(ArmError{.status = 400,
                              .code = "BadRequest",
                              .message = "The request has a Content-Length beside its "
                                         "Transfer-Encoding.",
                              .advice = "send one of them"});
  }
  const std::string coding = text_of(header[http::field::transfer_encoding]);
  if (codings == 1 && beast::iequals(coding, "chunked")) return std::nullopt;
  return arm_error(
      ArmError{.status = 501,
               .code = "NotImplemented",
               .message = fmt::format("The transfer coding '{}' is not known.",
                                      codings == 1 ? coding.substr(0, 100) : "of several headers"),
               .advice = "send the body with a Content-Length, or `chunked` and nothing else"});
}

HttpResponse too_large(std::size_t body_bytes_max) {
  return arm_error(ArmError{.status = 413,
                            .code = "RequestTooLarge",
                            .message = fmt::format("The body exceeds {} bytes.", body_bytes_max),
                            .advice = "send less at once"});
}

bool is_about_the_request(const error_code& error) {
  return error.category() == http::make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

HttpResponse answer_to_bad_request(const error_code& error, std::size_t body_bytes_max) {
  if (error == http::error::body_limit) return too_large(body_bytes_max);
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return arm_error(
        ArmError{.status = 431,
                 .code = "RequestHeaderFieldsTooLarge",
                 .message = fmt::format("The headers exceed {} bytes.", kHeaderBytesMax),
                 .advice = "send fewer or shorter headers"});
  }
  return arm_error(ArmError{.status = 400,
                            .code = "BadRequest",
                            .message = "Not an HTTP request: " + error.message(),
                            .advice = "speak HTTP/1.1"});
}

}  // namespace farside::front_door
