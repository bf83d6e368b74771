// A request and its answer as the vault sees them: plain texts, no trace of the HTTP library.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace farside::front_door {

struct HttpRequest {
  std::string method;  // "GET", upper case.
  std::string path;    // As sent, percent-encoded: "/subscriptions/s/…".
  std::string query;   // What follows the question mark, percent-encoded.
  std::string host;    // The Host header: how the client reached us, for links back.
  std::string authorization;
  std::string client_request_id;  // x-ms-client-request-id
  std::string body;
  std::string remote;  // Address of the client.
};

struct HttpResponse {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
  std::string content_type = "application/json; charset=utf-8";
};

// The right to answer one request, once, at any later time, from any thread.
//
// A copy stands for the same right.  Only the first answer counts; when the client has gone, the
// deadline has passed or the server has stopped, the answer is dropped.
class Responder final {
 public:
  struct Slot;

  explicit Responder(std::shared_ptr<Slot> slot) : slot_(std::move(slot)) {}
  void send(HttpResponse response) const;

 private:
  // The server and whoever answers end in any order, so neither can be the owner.
  std::shared_ptr<Slot> slot_;
};

// Called on the server's threads, several at a time; must not block.
using RequestHandler = std::function<void(HttpRequest, Responder)>;

}  // namespace farside::front_door
