// A real HTTPS client for tests, and a raw TLS connection for those who misbehave.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace farside::front_door {

struct Reply {
  int curl_error = 0;  // CURLcode
  long status = 0;
  std::map<std::string, std::string> headers;  // Names in lower case.
  std::string body;
};

// Keeps its connection between requests, as the SDKs do.
class HttpsClient final {
 public:
  HttpsClient(std::uint16_t port, std::string ca_file, std::string host = "127.0.0.1");
  ~HttpsClient();
  HttpsClient(const HttpsClient&) = delete;
  HttpsClient& operator=(const HttpsClient&) = delete;

  Reply request(const std::string& method, const std::string& target, const std::string& body = "",
                const std::vector<std::string>& headers = {});
  long connections_made() const { return connections_made_; }

 private:
  void* curl_;
  const std::uint16_t port_;
  const std::string ca_file_;
  const std::string host_;
  long connections_made_ = 0;
};

// A TCP connection that says what it is told, over TLS or not.
class RawClient final {
 public:
  // `from` is the loopback address it comes from; empty: the usual one.
  RawClient(std::uint16_t port, bool tls, const std::string& from = "");
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return fd_ >= 0; }
  void say(const std::string& bytes);
  std::string hear();  // What comes next, at least a byte; empty if nothing does.
  // Everything until the other end closes; what came so far if it does not within a long time.
  std::string hear_all();
  bool was_closed() const { return closed_; }

 private:
  int fd_ = -1;
  void* tls_ = nullptr;
  void* context_ = nullptr;
  bool closed_ = false;
};

}  // namespace farside::front_door
