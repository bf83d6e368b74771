// What is said over one connection: who the client is, and whether its messages are sealed.
//
// Thread: that of the connection.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/wsman/security_context.h"
#include "tests/support/hvsim/soap_host.h"

namespace farside::hvsim {

struct HttpQuestion {
  std::string authorization;
  std::string content_type;
  std::string body;
};

struct HttpAnswer {
  int status = 200;
  std::vector<std::string> challenges;
  std::string content_type;
  std::string body;
  bool resets = false;  // Instead of being said.
};

struct DoorOptions {
  std::map<std::string, std::string> passwords;  // By user: for Basic.
  bool allows_basic = true;                      // Over TLS only.
  std::string binding = {};  // What logins over TLS must be bound to; empty: to anything.
};

class Conversation final {
 public:
  // All outlive the conversation.  `certificate`: the subject of the client's, if it showed a valid
  // one.
  Conversation(SoapHost& host, Faults& faults, const DoorOptions& options, bool is_tls,
               std::string certificate)
      : host_(host),
        faults_(faults),
        options_(options),
        is_tls_(is_tls),
        certificate_(std::move(certificate)) {}

  HttpAnswer answer(const HttpQuestion& question);

 private:
  HttpAnswer refuse();
  HttpAnswer negotiate(const HttpQuestion& question);
  HttpAnswer soap(const std::string& envelope) const;
  HttpAnswer sealed_soap(const HttpQuestion& question);
  bool is_password_right(const std::string& authorization) const;

  SoapHost& host_;
  Faults& faults_;
  const DoorOptions& options_;
  const bool is_tls_;
  const std::string certificate_;
  std::unique_ptr<wsman::SecurityContext> context_;
};

}  // namespace farside::hvsim
