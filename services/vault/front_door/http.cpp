#include "services/vault/front_door/http.h"

#include "services/vault/front_door/responder.h"

namespace farside::front_door {

void Responder::send(HttpResponse response) const {
  const std::lock_guard lock(slot_->mutex);
  if (!slot_->open) return;
  slot_->open = false;
  slot_->response = std::move(response);
  if (slot_->ready) slot_->ready();
}

}  // namespace farside::front_door
