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
  std::vector<Close> leaving;
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    Pool& own = pool(from.is_local);
    id = ++last_id_;
    while (const auto in_the_way = own.strangers.in_the_way(from.group)) {
      leaving.push_back(take_out(own, *in_the_way));
    }
    closed_for_room_ += leaving.size();
    own.strangers.add(id, from.group);
    own.closes.emplace(id, std::move(close));
  }
  for (const Close& one : leaving) one();
  return {this, id, from.is_local, !leaving.empty()};
}

Admission::Close Admission::take_out(Pool& pool, std::uint64_t id) {
  pool.strangers.remove(id);
  return std::move(pool.closes.extract(id).mapped());
}

bool Admission::authenticate(const Pass& pass) {
  const std::lock_guard lock(mutex_);
  Pool& own = pool(pass.is_local_);
  if (own.authenticated >= limits_.authenticated_max) return false;
  // It may have been closed for another's sake this very moment; then it ends soon.
  if (own.closes.contains(pass.id_)) take_out(own, pass.id_);
  ++own.authenticated;
  return true;
}

void Admission::leave(const Pass& pass) {
  const std::lock_guard lock(mutex_);
  Pool& own = pool(pass.is_local_);
  if (pass.is_authenticated_) {
    --own.authenticated;
  } else if (own.closes.contains(pass.id_)) {
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
