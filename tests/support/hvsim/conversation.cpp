#include "tests/support/hvsim/conversation.h"

#include <poll.h>

#include "common/wsman/uris.h"

namespace farside::hvsim {
namespace {

using wsman::SecurityContext;

constexpr std::string_view kNegotiate = "Negotiate ";
constexpr std::string_view kBasic = "Basic ";

}  // namespace

// As Windows does: what is possible, and the connection stays open.
HttpAnswer Conversation::refuse() {
  context_.reset();
  HttpAnswer answer{.status = 401, .challenges = {"Negotiate"}};
  if (is_tls_ && options_.allows_basic) answer.challenges.emplace_back("Basic realm=\"WSMAN\"");
  return answer;
}

bool Conversation::is_password_right(const std::string& authorization) const {
  const auto pair = wsman::from_base64(authorization.substr(kBasic.size()));
  if (!pair || !pair->contains(':')) return false;
  const auto user = options_.passwords.find(pair->substr(0, pair->find(':')));
  return user != options_.passwords.end() && user->second == pair->substr(pair->find(':') + 1);
}

HttpAnswer Conversation::soap(const std::string& envelope) const {
  SoapAnswer answer = host_.answer(envelope);
  return {.status = answer.status,
          .challenges = {},
          .content_type = wsman::kSoapContentType,
          .body = std::move(answer.xml)};
}

HttpAnswer Conversation::negotiate(const HttpQuestion& question) {
  const auto token = wsman::from_base64(question.authorization.substr(kNegotiate.size()));
  if (!token) return refuse();
  if (context_ == nullptr || context_->is_established()) {
    auto context = SecurityContext::accept(is_tls_ ? options_.binding : std::string());
    if (!context) return refuse();
    context_ = std::move(*context);
  }
  const auto ours = context_->step(*token);
  if (!ours) return refuse();
  const std::string challenge = std::string(kNegotiate) + wsman::to_base64(*ours);
  if (!context_->is_established()) return {.status = 401, .challenges = {challenge}};
  HttpAnswer answer;
  if (is_tls_ && !question.body.empty()) answer = soap(question.body);
  if (!ours->empty()) answer.challenges.push_back(challenge);
  return answer;
}

HttpAnswer Conversation::sealed_soap(const HttpQuestion& question) {
  const auto sealed = wsman::read_sealed_body(question.body);
  if (!sealed) return {.status = 400};
  const auto envelope = context_->open(*sealed);
  if (!envelope) return refuse();
  HttpAnswer answer = soap(*envelope);
  const auto reply = context_->seal(answer.body);
  if (!reply) return {.status = 500};
  answer.content_type = wsman::kSealedContentType;
  answer.body = wsman::write_sealed_body(*reply, answer.body.size());
  return answer;
}

HttpAnswer Conversation::answer(const HttpQuestion& question) {
  std::int64_t delay_ms = 0;
  bool forgets = false;
  const bool is_login = question.body.empty();
  if (!is_login) {
    const std::lock_guard lock(faults_.mutex);
    if (faults_.resets > 0) {
      --faults_.resets;
      return {.status = 0, .resets = true};
    }
    forgets = faults_.unauthorized > 0;
    if (forgets) --faults_.unauthorized;
    if (faults_.delays > 0) {
      --faults_.delays;
      delay_ms = faults_.delay_ms;
    }
  }
  if (delay_ms > 0) ::poll(nullptr, 0, static_cast<int>(delay_ms));
  if (forgets) return refuse();
  if (question.authorization.starts_with(kNegotiate)) return negotiate(question);
  if (question.authorization.starts_with(kBasic)) {
    if (!is_tls_ || !options_.allows_basic || !is_password_right(question.authorization)) {
      return refuse();
    }
    return soap(question.body);
  }
  if (question.authorization == wsman::kCertificateProfile) {
    return certificate_.empty() ? refuse() : soap(question.body);
  }
  if (context_ == nullptr || !context_->is_established()) return refuse();
  if (wsman::is_sealed_content_type(question.content_type)) return sealed_soap(question);
  if (is_tls_) return soap(question.body);
  return {.status = 500};  // AllowUnencrypted is false.
}

}  // namespace farside::hvsim
