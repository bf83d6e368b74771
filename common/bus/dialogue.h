// What is spoken over one connection of a Listener.  It asks for bytes by number, and so decides
// how much whoever is at the other end can make this process hold.
//
// Owns: the state of its connection.  Thread: one, the listener's.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/bus/bytes.h"

namespace farside::bus {

class Dialogue {
 public:
  virtual ~Dialogue() = default;

  // What we say before anything was heard.
  virtual std::string greeting() { return {}; }

  // How many bytes the next take() is to be given, at least one.
  virtual std::size_t needs() const = 0;

  struct Taken {
    std::string answer;                        // Goes out at once.
    std::optional<std::vector<Part>> message;  // Whole.
  };
  // `bytes` are needs() many.  An error ends the connection, after `farewell` was sent.
  virtual Result<Taken> take(Bytes bytes) = 0;
  virtual std::string farewell() const { return {}; }

  // Whom the peer has proven to be; empty until then.
  virtual const std::string& key() const = 0;

  // One part of a message as it travels.
  virtual std::string seal(std::string_view part, bool more) = 0;
};

}  // namespace farside::bus
