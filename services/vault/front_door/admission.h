// How many connections there may be: those that have shown no token yet, and those that have.
//
// Where strangers are too many, the oldest of them goes, not the newcomer: whoever has the token
// shows it within moments, and is not kept out by others who only wait.  This host's own clients
// are counted apart, so that no stranger takes their place.
// Thread: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "common/base/client_address.h"
#include "common/base/strangers.h"

namespace farside::front_door {

struct AdmissionLimits {
  std::size_t strangers_max = 512;
  std::size_t strangers_per_address_max = 16;
  std::size_t local_strangers_max = 128;  // Of this host; no limit by address.
  std::size_t authenticated_max = 512;    // And as many of this host.
};

class Admission final {
 public:
  // One connection, for as long as it lives.
  class Pass final {
   public:
    Pass(Pass&& other) noexcept;
    Pass& operator=(Pass&&) = delete;
    ~Pass();

    // It has shown the token.  False: there are too many of those.
    bool authenticate();
    bool is_authenticated() const { return is_authenticated_; }
    bool made_room() const { return made_room_; }  // Another one was closed for it.

   private:
    friend class Admission;
    Pass(Admission* admission, std::uint64_t id, bool is_local, bool made_room)
        : admission_(admission), id_(id), is_local_(is_local), made_room_(made_room) {}

    Admission* admission_;  // Null: moved from.
    std::uint64_t id_;
    bool is_local_;
    bool made_room_;
    bool is_authenticated_ = false;
  };

  explicit Admission(AdmissionLimits limits)
      : limits_(limits),
        local_{.strangers = {limits.local_strangers_max, limits.local_strangers_max}},
        remote_{.strangers = {limits.strangers_max, limits.strangers_per_address_max}} {}

  // `close` ends the connection soon; it may be called from any thread, at most once, and never
  // after the pass has ended unless it was called before.
  Pass enter(const ClientAddress& from, std::function<void()> close);

  std::size_t strangers() const;          // Now, of both kinds.
  std::uint64_t closed_for_room() const;  // Ever.

 private:
  using Close = std::function<void()>;
  struct Pool {
    Strangers strangers;
    std::map<std::uint64_t, Close> closes = {};  // Of the strangers.
    std::size_t authenticated = 0;
  };
  static Close take_out(Pool& pool, std::uint64_t id);
  void leave(const Pass& pass);
  bool authenticate(const Pass& pass);
  Pool& pool(bool is_local) { return is_local ? local_ : remote_; }

  const AdmissionLimits limits_;
  mutable std::mutex mutex_;  // Guards all below.
  Pool local_;
  Pool remote_;
  std::uint64_t last_id_ = 0;
  std::uint64_t closed_for_room_ = 0;
};

}  // namespace farside::front_door
