#include "tests/unit/front_door/https_client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace farside::front_door {
namespace {

std::size_t take_body(char* bytes, std::size_t, std::size_t count, void* out) {
  static_cast<Reply*>(out)->body.append(bytes, count);
  return count;
}

std::size_t take_header(char* bytes, std::size_t, std::size_t count, void* out) {
  const std::string line(bytes, count);
  const std::size_t colon = line.find(':');
  if (colon == std::string::npos) return count;
  std::string name = line.substr(0, colon);
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  std::string value = line.substr(colon + 1);
  value.erase(0, value.find_first_not_of(' '));
  value.erase(value.find_last_not_of("\r\n") + 1);
  static_cast<Reply*>(out)->headers[name] = value;
  return count;
}

}  // namespace

HttpsClient::HttpsClient(std::uint16_t port, std::string ca_file, std::string host)
    : curl_(curl_easy_init()), port_(port), ca_file_(std::move(ca_file)), host_(std::move(host)) {}
HttpsClient::~HttpsClient() {
  curl_easy_cleanup(curl_);
}

Reply HttpsClient::request(const std::string& method, const std::string& target,
                           const std::string& body, const std::vector<std::string>& headers) {
  Reply reply;
  const std::string url = "https://" + host_ + ":" + std::to_string(port_) + target;
  curl_slist* list = nullptr;
  for (const std::string& header : headers) list = curl_slist_append(list, header.c_str());
  curl_easy_reset(curl_);
  curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl_, CURLOPT_CUSTOMREQUEST, method.c_str());
  curl_easy_setopt(curl_, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl_, CURLOPT_TIMEOUT, 60L);
  curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(curl_, CURLOPT_CAINFO, ca_file_.c_str());
  curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &reply);
  curl_easy_setopt(curl_, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(curl_, CURLOPT_HEADERDATA, &reply);
  if (!body.empty() || method != "GET") {
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
  }
  reply.curl_error = curl_easy_perform(curl_);
  curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &reply.status);
  long made = 0;
  curl_easy_getinfo(curl_, CURLINFO_NUM_CONNECTS, &made);
  connections_made_ += made;
  curl_slist_free_all(list);
  return reply;
}

RawClient::RawClient(std::uint16_t port, bool tls, const std::string& from) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{.tv_sec = 30, .tv_usec = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (!from.empty()) {
    ::inet_pton(AF_INET, from.c_str(), &address.sin_addr);
    ::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd_);
    fd_ = -1;
    return;
  }
  if (!tls) return;
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL* stream = SSL_new(context);
  SSL_set_fd(stream, fd_);
  context_ = context;
  tls_ = stream;
  if (SSL_connect(stream) != 1) closed_ = true;
}

RawClient::~RawClient() {
  SSL_free(static_cast<SSL*>(tls_));
  SSL_CTX_free(static_cast<SSL_CTX*>(context_));
  if (fd_ >= 0) ::close(fd_);
}

void RawClient::say(const std::string& bytes) {
  if (tls_ != nullptr) {
    SSL_write(static_cast<SSL*>(tls_), bytes.data(), static_cast<int>(bytes.size()));
  } else {
    ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
}

std::string RawClient::hear() {
  std::array<char, 4096> part{};
  const auto got = tls_ != nullptr ? SSL_read(static_cast<SSL*>(tls_), part.data(), part.size())
                                   : ::recv(fd_, part.data(), part.size(), 0);
  return got <= 0 ? std::string{} : std::string(part.data(), static_cast<std::size_t>(got));
}

std::string RawClient::hear_all() {
  std::string heard;
  std::array<char, 4096> part{};
  while (true) {
    const auto got = tls_ != nullptr ? SSL_read(static_cast<SSL*>(tls_), part.data(), part.size())
                                     : ::recv(fd_, part.data(), part.size(), 0);
    if (got <= 0) {
      // A time-out of ours leaves the socket open; anything else is the other end's doing.
      char byte = 0;
      const auto peeked = ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
      closed_ = peeked == 0 || (peeked < 0 && errno != EAGAIN);
      return heard;
    }
    heard.append(part.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace farside::front_door
