// Between what the HTTP library has parsed and what the vault knows.  Private to this folder.
#pragma once

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <optional>
#include <string>

#include "services/vault/front_door/http.h"

namespace farside::front_door {

using RequestParser = boost::beast::http::request_parser<boost::beast::http::string_body>;
using RequestMessage = boost::beast::http::request<boost::beast::http::string_body>;
using RequestHeader = boost::beast::http::fields;
using ResponseMessage = boost::beast::http::response<boost::beast::http::string_body>;

inline constexpr std::uint32_t kHeaderBytesMax = 32 * 1024;

HttpRequest to_request(RequestMessage&& in, std::string remote);

// Adds what ARM clients and browsers are told with every answer.
ResponseMessage to_message(HttpResponse&& in, const std::string& client_request_id,
                           bool keep_alive);

// Of the only header of that name; empty if there is none or more than one.
std::string only(const RequestHeader& header, boost::beast::http::field name);

// The answer to a request whose end is told in a way that others may read differently; nullopt if
// it is plain.
std::optional<HttpResponse> framing_error(const RequestHeader& header);

// Errors that mean: there is a client and it sent something that HTTP does not allow.
bool is_about_the_request(const boost::system::error_code& error);
HttpResponse answer_to_bad_request(const boost::system::error_code& error,
                                   std::size_t body_bytes_max);
HttpResponse too_large(std::size_t body_bytes_max);

}  // namespace farside::front_door
