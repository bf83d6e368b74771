#include "common/shell/reception.h"

#include "common/base/log.h"
#include "common/shell/knock.h"

namespace farside::shell {
namespace {

constexpr Micros kSilenceMax = std::chrono::seconds{10};
constexpr Micros kKnockEvery = std::chrono::seconds{10};

std::string words(Knock seen, const msg::Peer& issuer) {
  if (seen == Knock::kRefused) {
    return "refused by " + issuer.principal + " at " + issuer.endpoint +
           ": it does not let this process's key in; it was revoked, or its identity.key is not "
           "the one it registered with; next: create a key with `farside key create`, name its "
           "file as registration_key, delete identity.key if it was revoked, and start it again";
  }
  if (seen == Knock::kStranger) {
    return "what listens at " + issuer.endpoint + " is not the " + issuer.principal +
           " that let this process in: it has another key; next: if that is right, create a key "
           "with `farside key create`, name its file as registration_key and start it again";
  }
  return {};
}

}  // namespace

void Reception::expect(const msg::Peer& issuer, const bus::CurveKeys& own) {
  const std::lock_guard lock(mutex_);
  issuer_ = issuer;
  own_ = own;
  is_there_ = false;
  silent_since_ = clock_.monotonic();
}

void Reception::heard(const std::string& principal, bool is_there) {
  const std::lock_guard lock(mutex_);
  if (principal != issuer_.principal) return;
  is_there_ = is_there;
  silent_since_ = clock_.monotonic();
  said_.clear();
}

std::string Reception::problem() {
  msg::Peer issuer;
  bus::CurveKeys own;
  {
    const std::lock_guard lock(mutex_);
    const Micros now = clock_.monotonic();
    if (issuer_.endpoint.empty() || is_there_ || now - silent_since_ < kSilenceMax) return {};
    if (knocked_at_ != Micros{0} && now - knocked_at_ < kKnockEvery) return said_;
    knocked_at_ = now;  // Whoever asks meanwhile gets the last answer.
    issuer = issuer_;
    own = own_;
  }
  auto said = words(knock(own, issuer.endpoint, issuer.public_key), issuer);
  const std::lock_guard lock(mutex_);
  if (is_there_) return {};
  if (!said.empty() && said != said_) log::error("not let in", {{"cause", said}});
  said_ = said;
  return said;
}

}  // namespace farside::shell
