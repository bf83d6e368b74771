// The operator's token, as the front door and the core behind it judge it.
//
// Immutable; thread: any.
#pragma once

#include <string>
#include <string_view>

#include "services/vault/front_door/http.h"

namespace farside::front_door {

class BearerToken final {
 public:
  explicit BearerToken(std::string sha256) : sha256_(std::move(sha256)) {}  // Hexadecimal.

  // Whether the value of an Authorization header holds the token; how long that takes tells nothing
  // about it.
  bool admits(std::string_view authorization) const;

 private:
  std::string sha256_;
};

// 401, as ARM says it.
HttpResponse unauthorized(std::string_view authorization);

}  // namespace farside::front_door
