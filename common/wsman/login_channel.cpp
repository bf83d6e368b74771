#include "common/wsman/login_channel.h"

#include <fmt/format.h>

#include "common/wsman/channel_binding.h"
#include "common/wsman/uris.h"

namespace farside::wsman {
namespace {

constexpr int kLegsMax = 8;
constexpr int kLoginsMax = 2;
constexpr long kUnauthorizedStatus = 401;

// "host" of "https://host:5986/wsman".
std::string host_of(const std::string& url) {
  const std::size_t start = url.find("://") + 3;
  const std::string rest = url.substr(start, url.find('/', start) - start);
  if (rest.starts_with('[')) return rest.substr(1, rest.find(']') - 1);
  return rest.substr(0, rest.find(':'));
}

// The token of "Negotiate <base64>"; empty if there is none.
Result<std::string> negotiate_token(const HttpReply& reply) {
  constexpr std::string_view kScheme = "Negotiate ";
  for (const std::string& challenge : reply.challenges) {
    if (challenge.starts_with(kScheme)) return from_base64(challenge.substr(kScheme.size()));
  }
  return std::string{};
}

}  // namespace

LoginChannel::LoginChannel(std::unique_ptr<HttpPipe> pipe, LoginKind kind, Login login,
                           std::string url)
    : pipe_(std::move(pipe)),
      kind_(kind),
      login_(std::move(login)),
      url_(std::move(url)),
      host_(host_of(url_)),
      seals_(url_.starts_with("http://")) {}

Result<std::unique_ptr<LoginChannel>> LoginChannel::open(HttpTarget target, LoginKind kind,
                                                         Login login) {
  if (target.url.starts_with("http://") && kind != LoginKind::kNegotiate) {
    return fail(ErrorCode::kInvalidArgument,
                target.url + ": over HTTP only Negotiate is safe, as it seals messages",
                "use https://HOST:5986/wsman, or log in by Negotiate");
  }
  if (kind == LoginKind::kCertificate && target.certificate_file.empty()) {
    return fail(ErrorCode::kInvalidArgument, "log in to " + target.url + ": no certificate given");
  }
  const std::string url = target.url;
  FARSIDE_ASSIGN(auto pipe, HttpPipe::open(std::move(target)));
  return std::unique_ptr<LoginChannel>(
      new LoginChannel(std::move(pipe), kind, std::move(login), url));
}

std::unexpected<Error> LoginChannel::refused(const HttpReply& reply) const {
  std::string offers;
  for (const std::string& challenge : reply.challenges) {
    offers += (offers.empty() ? "" : ", ") + challenge.substr(0, challenge.find(' '));
  }
  return fail(ErrorCode::kUnauthorized,
              fmt::format("{} refuses user '{}' ({}; it offers {})", url_, login_.user,
                          reply.status, offers.empty() ? "no login" : offers),
              "check user and password, and that the host allows this way to log in "
              "(winrm get winrm/config/service/auth)");
}

Result<SoapReply> LoginChannel::ask(const std::string& envelope, Micros within) {
  if (kind_ == LoginKind::kNegotiate) return ask_negotiated(envelope, within);
  HttpRequest request{.content_type = kSoapContentType, .authorization = "", .body = envelope};
  request.authorization = kind_ == LoginKind::kCertificate
                              ? kCertificateProfile
                              : "Basic " + to_base64(login_.user + ":" + login_.password);
  FARSIDE_ASSIGN(HttpReply reply, pipe_->post(request, within));
  return read(std::move(reply));
}

// All legs go over one connection; the messages are empty until it is known who is there.
Status LoginChannel::log_in(Micros within) {
  context_.reset();
  pipe_->hang_up();
  std::string binding;
  if (!seals_) {
    // Kerberos binds its first token, so the certificate must be known before anything is said.
    const HttpRequest knock{.content_type = kSoapContentType};
    FARSIDE_ASSIGN(const HttpReply reply, pipe_->post(knock, within));
    FARSIDE_ASSIGN(binding, tls_server_end_point(reply.certificate));
  }
  FARSIDE_ASSIGN(auto context, SecurityContext::initiate(host_, login_, std::move(binding)));
  std::string token;
  for (int leg = 0; leg < kLegsMax; ++leg) {
    auto ours = context->step(token);
    if (!ours) {
      Error error = ours.error().in(fmt::format("log in to {} as '{}'", url_, login_.user));
      error.advice =
          login_.mechanism == Mechanism::kKerberos
              ? "check user, password, realm, KDC and clock; a host that is in no domain "
                "needs the mechanism ntlm"
              : "check user and password, for Kerberos also realm, KDC and clock";
      return fail(std::move(error));
    }
    if (ours->empty() && context->is_established()) break;
    const HttpRequest request{.content_type = kSoapContentType,
                              .authorization = "Negotiate " + to_base64(*ours),
                              .body = "",
                              .same_connection = leg > 0};
    FARSIDE_ASSIGN(const HttpReply reply, pipe_->post(request, within));
    if (reply.status == 0) {
      return fail(ErrorCode::kUnavailable, url_ + " closed the connection during the login");
    }
    FARSIDE_ASSIGN(token, negotiate_token(reply));
    const bool goes_on = reply.status == kUnauthorizedStatus && !token.empty();
    if (reply.status >= 300 && !goes_on) return refused(reply);
    if (token.empty()) break;
  }
  if (!context->is_established()) {
    return fail(ErrorCode::kUnauthorized, url_ + ": the login did not come to an end");
  }
  context_ = std::move(context);
  return {};
}

Result<SoapReply> LoginChannel::ask_negotiated(const std::string& envelope, Micros within) {
  for (int logins = 0;; ++logins) {
    if (context_ == nullptr) FARSIDE_TRY(log_in(within));
    HttpRequest request{
        .content_type = kSoapContentType, .authorization = "", .body = "", .same_connection = true};
    if (seals_) {
      FARSIDE_ASSIGN(const Sealed sealed, context_->seal(envelope));
      request.content_type = kSealedContentType;
      request.body = write_sealed_body(sealed, envelope.size());
    } else {
      request.body = envelope;
    }
    auto reply = pipe_->post(request, within);
    if (!reply) {
      context_.reset();
      return fail(reply.error());
    }
    // Neither was heard by the host: the connection is another one, or the login has expired.
    const bool was_heard = reply->status != 0 && reply->status != kUnauthorizedStatus;
    if (was_heard) {
      auto read_reply = read(std::move(*reply));
      // What was sealed can be opened only in order.
      if (!read_reply) context_.reset();
      return read_reply;
    }
    context_.reset();
    if (logins + 1 == kLoginsMax) return refused(*reply);
  }
}

Result<SoapReply> LoginChannel::read(HttpReply reply) const {
  if (reply.status == kUnauthorizedStatus) return refused(reply);
  if (reply.status == 403 && reply.body.empty()) {
    return fail(ErrorCode::kForbidden, fmt::format("{} forbids '{}' to ask", url_, login_.user),
                "put the user into the host's group Remote Management Users");
  }
  if (!seals_) return SoapReply{.status = reply.status, .xml = std::move(reply.body)};
  if (reply.body.empty()) return SoapReply{.status = reply.status, .xml = ""};
  if (!is_sealed_content_type(reply.content_type)) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("{} answered {} and did not seal it", url_, reply.status),
                "see who is between here and the host; use HTTPS");
  }
  FARSIDE_ASSIGN(const SealedView sealed, read_sealed_body(reply.body));
  FARSIDE_ASSIGN(std::string xml, context_->open(sealed));
  return SoapReply{.status = reply.status, .xml = std::move(xml)};
}

}  // namespace farside::wsman
