#include "services/vault/front_door/admission.h"

#include <utility>
#include <vector>

namespace farside::front_door {

Admission::Pass::Pass(Pass&& other) noexcept
    : admission_(std::exchange(other.admission_, nullptr)),
      id_(other.id_),
      is_local_(other.is_local_),
      made_room_(other.made_room_),
      is_authenticated_(other.is_authenticated_) {}

Admission::Pass::~Pass() {
  if (admission_ != nullptr) admission_->leave(*this);
}

bool Admission::Pass::authenticate() {
  if (!is_authenticated_) is_authenticated_ = admission_->authenticate(*this);
  return is_authenticated_;
}

Admission::Pass Admission::enter(const ClientAddress& from, std::function<void()> close) {
  std::vector<Stranger> leaving;
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    Pool& own = pool(from.is_local);
    id = ++last_id_;
    if (!from.is_local) {
      const auto same = own.by_address.find(from.group);
      if (same != own.by_address.end() &&
          same->second.size() >= limits_.strangers_per_address_max) {
        leaving.push_back(take_out(own, *same->second.begin()));
      }
    }
    if (own.strangers.size() >=
        (from.is_local ? limits_.local_strangers_max : limits_.strangers_max)) {
      leaving.push_back(take_out(own, own.strangers.begin()->first));
    }
    closed_for_room_ += leaving.size();
    own.by_address[from.group].insert(id);
    own.strangers.emplace(id, Stranger{.address = from.group, .close = std::move(close)});
  }
  for (const Stranger& one : leaving) one.close();
  return {this, id, from.is_local, !leaving.empty()};
}

Admission::Stranger Admission::take_out(Pool& pool, std::uint64_t id) {
  const auto found = pool.strangers.find(id);
  Stranger out = std::move(found->second);
  pool.strangers.erase(found);
  const auto address = pool.by_address.find(out.address);
  address->second.erase(id);
  if (address->second.empty()) pool.by_address.erase(address);
  return out;
}

bool Admission::authenticate(const Pass& pass) {
  const std::lock_guard lock(mutex_);
  Pool& own = pool(pass.is_local_);
  if (own.authenticated >= limits_.authenticated_max) return false;
  // It may have been closed for another's sake this very moment; then it ends soon.
  if (own.strangers.contains(pass.id_)) take_out(own, pass.id_);
  ++own.authenticated;
  return true;
}

void Admission::leave(const Pass& pass) {
  const std::lock_guard lock(mutex_);
  Pool& own = pool(pass.is_local_);
  if (pass.is_authenticated_) {
    --own.authenticated;
  } else if (own.strangers.contains(pass.id_)) {
    take_out(own, pass.id_);
  }
}

std::size_t Admission::strangers() const {
  const std::lock_guard lock(mutex_);
  return local_.strangers.size() + remote_.strangers.size();
}

std::uint64_t Admission::closed_for_room() const {
  const std::lock_guard lock(mutex_);
  return closed_for_room_;
}

}  // namespace farside::front_door
