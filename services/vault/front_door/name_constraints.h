// What a certificate authority may vouch for: who takes it into a trust store trusts it for the
// vault's own names, and for nothing else.
#pragma once

#include <openssl/x509.h>

#include <string>
#include <vector>

#include "common/base/result.h"

namespace farside::front_door {

struct SubjectName {
  std::string text;  // "vault.example.com", "*.example.com", "192.0.2.7", "2001:db8::7"
  bool is_address = false;
};

// Errors: kInvalidArgument (neither a name nor an address).
Result<SubjectName> subject_name(const std::string& text);

// Of this host's interfaces, but for loopback and link-local ones; at most 64.
std::vector<SubjectName> own_addresses();

// "critical,permitted;DNS:…,permitted;IP:…", as OpenSSL reads an extension.
std::string name_constraints_of(const std::vector<SubjectName>& permitted);

bool has_name_constraints(const X509* authority);
// Whether certificates of `authority` may be for `name`; without constraints they may.
bool permits(const X509* authority, const SubjectName& name);

}  // namespace farside::front_door
