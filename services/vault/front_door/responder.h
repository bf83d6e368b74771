// The meeting point of a connection that waits and whoever answers.  Private to this folder.
#pragma once

#include <functional>
#include <mutex>
#include <optional>

#include "services/vault/front_door/http.h"

namespace farside::front_door {

struct Responder::Slot {
  std::mutex mutex;
  bool open = true;                      // Until the first answer, the deadline or the end.
  std::optional<HttpResponse> response;  // Set at most once.
  std::function<void()> ready;           // Wakes the connection; cleared when it has gone.

  void close() {
    const std::lock_guard lock(mutex);
    open = false;
    ready = nullptr;
  }
};

}  // namespace farside::front_door
