#include "common/wsman/security_context.h"

#include <fmt/format.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <openssl/evp.h>

#include <array>
#include <vector>

#include "common/base/assert.h"

namespace farside::wsman {
namespace {

constexpr std::size_t kNtlmSignatureBytes = 16;
constexpr OM_uint32 kWanted = GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG | GSS_C_CONF_FLAG |
                              GSS_C_REPLAY_FLAG | GSS_C_SEQUENCE_FLAG;

// Object identifiers in DER: 1.3.6.1.5.5.2, 1.2.840.113554.1.2.2 and 1.3.6.1.4.1.311.2.2.10.
// Source: RFC 4178, RFC 1964, [MS-NLMP] 1.9.
struct Oid {
  std::array<unsigned char, 12> bytes;
  OM_uint32 count;

  gss_OID_desc view() const {
    // GSSAPI takes what it does not change as not const.
    return {count, const_cast<unsigned char*>(bytes.data())};
  }
};
constexpr Oid kSpnego{{0x2b, 0x06, 0x01, 0x05, 0x05, 0x02}, 6};
constexpr Oid kKerberos{{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}, 9};
constexpr Oid kNtlm{{0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a}, 10};

bool same(gss_OID left, const Oid& right) {
  return left != nullptr && left->length == right.count &&
         std::equal(right.bytes.begin(), right.bytes.begin() + right.count,
                    static_cast<const unsigned char*>(left->elements));
}

gss_buffer_desc buffer(std::string_view text) {
  return {text.size(), const_cast<char*>(text.data())};
}

// Memory of GSSAPI's that is freed at the end.
struct Buffer {
  gss_buffer_desc bytes{0, nullptr};

  Buffer() = default;
  ~Buffer() {
    OM_uint32 minor = 0;
    gss_release_buffer(&minor, &bytes);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::string text() const { return {static_cast<const char*>(bytes.value), bytes.length}; }
};

struct Name {
  gss_name_t name = GSS_C_NO_NAME;

  Name() = default;
  ~Name() {
    OM_uint32 minor = 0;
    if (name != GSS_C_NO_NAME) gss_release_name(&minor, &name);
  }
  Name(const Name&) = delete;
  Name& operator=(const Name&) = delete;
};

std::string words(OM_uint32 code, int type, gss_OID mechanism) {
  OM_uint32 minor = 0;
  OM_uint32 more = 0;
  std::string all;
  do {
    Buffer one;
    if (GSS_ERROR(gss_display_status(&minor, code, type, mechanism, &more, &one.bytes)) != 0) break;
    std::string text = one.text();
    while (text.ends_with('\0')) text.pop_back();  // Some mechanisms count it in.
    all += (all.empty() ? "" : "; ") + text;
  } while (more != 0);
  return all;
}

Error gss_error(ErrorCode code, const std::string& doing, OM_uint32 major, OM_uint32 minor,
                gss_OID mechanism = GSS_C_NO_OID) {
  return Error{.code = code,
               .what = fmt::format("{}: {} ({})", doing, words(major, GSS_C_GSS_CODE, GSS_C_NO_OID),
                                   words(minor, GSS_C_MECH_CODE, mechanism)),
               .advice = ""};
}

std::vector<gss_OID_desc> mechanisms_of(Mechanism mechanism) {
  std::vector<gss_OID_desc> all;
  if (mechanism != Mechanism::kNtlm) all.push_back(kKerberos.view());
  if (mechanism != Mechanism::kKerberos) all.push_back(kNtlm.view());
  return all;
}

}  // namespace

Mechanism mechanism_from(std::string_view setting) {
  if (setting == "kerberos") return Mechanism::kKerberos;
  return setting == "ntlm" ? Mechanism::kNtlm : Mechanism::kKerberosOrNtlm;
}

struct SecurityContext::Impl {
  gss_cred_id_t credential = GSS_C_NO_CREDENTIAL;
  gss_ctx_id_t context = GSS_C_NO_CONTEXT;
  Name target;  // Of an initiator.
  bool is_initiator = true;
  bool is_established = false;
  bool is_ntlm = false;
  std::string peer;
  std::string binding;  // Empty: none.

  Impl() = default;
  ~Impl() {
    OM_uint32 minor = 0;
    if (context != GSS_C_NO_CONTEXT) gss_delete_sec_context(&minor, &context, GSS_C_NO_BUFFER);
    if (credential != GSS_C_NO_CREDENTIAL) gss_release_cred(&minor, &credential);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  gss_channel_bindings_struct bindings() {
    gss_channel_bindings_struct all{};
    all.application_data = buffer(binding);
    return all;
  }
  Status acquire(const Login& login);
  Status learn_mechanism();
};

Status SecurityContext::Impl::acquire(const Login& login) {
  OM_uint32 minor = 0;
  Name user;
  gss_buffer_desc user_text = buffer(login.user);
  OM_uint32 major = gss_import_name(&minor, &user_text, GSS_C_NT_USER_NAME, &user.name);
  if (GSS_ERROR(major) != 0) {
    return fail(gss_error(ErrorCode::kInvalidArgument, "name '" + login.user + "'", major, minor));
  }
  gss_buffer_desc password = buffer(login.password);
  gss_OID_desc spnego = kSpnego.view();
  gss_OID_set_desc only_spnego{1, &spnego};
  major =
      gss_acquire_cred_with_password(&minor, user.name, &password, GSS_C_INDEFINITE, &only_spnego,
                                     GSS_C_INITIATE, &credential, nullptr, nullptr);
  if (GSS_ERROR(major) != 0) {
    return fail(
        gss_error(ErrorCode::kUnauthorized, "log in as '" + login.user + "'", major, minor));
  }
  std::vector<gss_OID_desc> mechanisms = mechanisms_of(login.mechanism);
  gss_OID_set_desc offered{mechanisms.size(), mechanisms.data()};
  major = gss_set_neg_mechs(&minor, credential, &offered);
  if (GSS_ERROR(major) != 0) {
    Error error = gss_error(ErrorCode::kUnsupported, "offer Kerberos or NTLM", major, minor);
    error.advice = "install gss-ntlmssp for NTLM, and configure krb5.conf for Kerberos";
    return fail(std::move(error));
  }
  return {};
}

Status SecurityContext::Impl::learn_mechanism() {
  OM_uint32 minor = 0;
  OM_uint32 flags = 0;
  gss_OID mechanism = GSS_C_NO_OID;
  Name source;
  const OM_uint32 major = gss_inquire_context(&minor, context, &source.name, nullptr, nullptr,
                                              &mechanism, &flags, nullptr, nullptr);
  if (GSS_ERROR(major) != 0) {
    return fail(gss_error(ErrorCode::kUnauthorized, "look at the login", major, minor));
  }
  if ((flags & GSS_C_CONF_FLAG) == 0 || (flags & GSS_C_INTEG_FLAG) == 0) {
    return fail(ErrorCode::kUnauthorized, "the login gives no keys to seal messages with");
  }
  is_ntlm = same(mechanism, kNtlm);
  if (!is_ntlm && !same(mechanism, kKerberos)) {
    return fail(ErrorCode::kUnsupported, "the login is neither by Kerberos nor by NTLM");
  }
  if (!is_initiator && source.name != GSS_C_NO_NAME) {
    Buffer text;
    if (GSS_ERROR(gss_display_name(&minor, source.name, &text.bytes, nullptr)) == 0) {
      peer = text.text();
    }
  }
  return {};
}

SecurityContext::SecurityContext(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SecurityContext::~SecurityContext() = default;

Result<std::unique_ptr<SecurityContext>> SecurityContext::initiate(const std::string& host,
                                                                   const Login& login,
                                                                   std::string binding) {
  auto impl = std::make_unique<Impl>();
  impl->binding = std::move(binding);
  FARSIDE_TRY(impl->acquire(login));
  const std::string service = "HTTP@" + host;
  gss_buffer_desc text = buffer(service);
  OM_uint32 minor = 0;
  const OM_uint32 major =
      gss_import_name(&minor, &text, GSS_C_NT_HOSTBASED_SERVICE, &impl->target.name);
  if (GSS_ERROR(major) != 0) {
    return fail(gss_error(ErrorCode::kInvalidArgument, "name " + service, major, minor));
  }
  return std::unique_ptr<SecurityContext>(new SecurityContext(std::move(impl)));
}

Result<std::unique_ptr<SecurityContext>> SecurityContext::accept(std::string binding) {
  auto impl = std::make_unique<Impl>();
  impl->binding = std::move(binding);
  impl->is_initiator = false;
  return std::unique_ptr<SecurityContext>(new SecurityContext(std::move(impl)));
}

Result<std::string> SecurityContext::step(std::string_view token) {
  OM_uint32 minor = 0;
  OM_uint32 major = 0;
  gss_buffer_desc in = buffer(token);
  gss_OID_desc spnego = kSpnego.view();
  gss_OID mechanism = GSS_C_NO_OID;
  Buffer out;
  OM_uint32 flags = 0;
  gss_channel_bindings_struct bindings = impl_->bindings();
  gss_channel_bindings_t bound_to = impl_->binding.empty() ? GSS_C_NO_CHANNEL_BINDINGS : &bindings;
  if (impl_->is_initiator) {
    major = gss_init_sec_context(&minor, impl_->credential, &impl_->context, impl_->target.name,
                                 &spnego, kWanted, GSS_C_INDEFINITE, bound_to,
                                 token.empty() ? GSS_C_NO_BUFFER : &in, &mechanism, &out.bytes,
                                 nullptr, nullptr);
  } else {
    major = gss_accept_sec_context(&minor, &impl_->context, impl_->credential, &in, bound_to,
                                   nullptr, &mechanism, &out.bytes, &flags, nullptr, nullptr);
  }
  if (GSS_ERROR(major) != 0) {
    return fail(gss_error(ErrorCode::kUnauthorized, "log in", major, minor, mechanism));
  }
  impl_->is_established = major == GSS_S_COMPLETE;
  if (impl_->is_established) FARSIDE_TRY(impl_->learn_mechanism());
  // Kerberos lets pass whoever bound the login to nothing, and only says so.
  const bool is_bound = impl_->is_ntlm || (flags & GSS_C_CHANNEL_BOUND_FLAG) != 0;
  if (impl_->is_established && !impl_->is_initiator && !impl_->binding.empty() && !is_bound) {
    impl_->is_established = false;
    return fail(ErrorCode::kUnauthorized, "the login is not bound to this connection");
  }
  return out.text();
}

bool SecurityContext::is_established() const {
  return impl_->is_established;
}

std::string SecurityContext::mechanism() const {
  return impl_->is_ntlm ? "ntlm" : "kerberos";
}

std::string SecurityContext::peer() const {
  return impl_->peer;
}

Result<Sealed> SecurityContext::seal(const std::string& text) {
  FARSIDE_ASSERT(impl_->is_established);
  OM_uint32 minor = 0;
  int is_sealed = 0;
  Sealed sealed;
  if (impl_->is_ntlm) {
    gss_buffer_desc in = buffer(text);
    Buffer out;
    const OM_uint32 major =
        gss_wrap(&minor, impl_->context, 1, GSS_C_QOP_DEFAULT, &in, &is_sealed, &out.bytes);
    if (GSS_ERROR(major) != 0 || is_sealed == 0 || out.bytes.length < kNtlmSignatureBytes) {
      return fail(gss_error(ErrorCode::kInternal, "seal a message", major, minor));
    }
    const std::string all = out.text();
    sealed.header = all.substr(0, kNtlmSignatureBytes);
    sealed.text = all.substr(kNtlmSignatureBytes);
    return sealed;
  }
  // In place: the data keep their length, all that Kerberos adds goes into the header.
  sealed.text = text;
  std::array<gss_iov_buffer_desc, 3> parts{};
  parts[0].type = GSS_IOV_BUFFER_TYPE_HEADER | GSS_IOV_BUFFER_FLAG_ALLOCATE;
  parts[1].type = GSS_IOV_BUFFER_TYPE_DATA;
  parts[1].buffer = {sealed.text.size(), sealed.text.data()};
  parts[2].type = GSS_IOV_BUFFER_TYPE_PADDING | GSS_IOV_BUFFER_FLAG_ALLOCATE;
  const OM_uint32 major = gss_wrap_iov(&minor, impl_->context, 1, GSS_C_QOP_DEFAULT, &is_sealed,
                                       parts.data(), static_cast<int>(parts.size()));
  if (GSS_ERROR(major) == 0 && is_sealed != 0) {
    sealed.header.assign(static_cast<const char*>(parts[0].buffer.value), parts[0].buffer.length);
    sealed.text.append(static_cast<const char*>(parts[2].buffer.value), parts[2].buffer.length);
  }
  OM_uint32 ignored = 0;
  gss_release_iov_buffer(&ignored, parts.data(), static_cast<int>(parts.size()));
  if (sealed.header.empty()) {
    return fail(gss_error(ErrorCode::kInternal, "seal a message", major, minor));
  }
  return sealed;
}

Result<std::string> SecurityContext::open(const SealedView& sealed) {
  FARSIDE_ASSERT(impl_->is_established);
  // Both mechanisms take header and data as one token, too.
  std::string token(sealed.header);
  token += sealed.text;
  gss_buffer_desc in = buffer(token);
  Buffer out;
  OM_uint32 minor = 0;
  int is_sealed = 0;
  const OM_uint32 major = gss_unwrap(&minor, impl_->context, &in, &out.bytes, &is_sealed, nullptr);
  // Supplementary bits tell of repeated and reordered messages: over one connection, an attack.
  if (major != GSS_S_COMPLETE || is_sealed == 0) {
    return fail(gss_error(ErrorCode::kCorrupt, "open a sealed message", major, minor));
  }
  if (out.bytes.length != sealed.plain_bytes) {
    return fail(ErrorCode::kCorrupt, "open a sealed message: it has another length than it says");
  }
  return out.text();
}

std::string to_base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4, '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                  reinterpret_cast<const unsigned char*>(bytes.data()),
                  static_cast<int>(bytes.size()));
  return text;
}

Result<std::string> from_base64(std::string_view text) {
  std::string bytes(text.size() / 4 * 3 + 3, '\0');
  const int count = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                    reinterpret_cast<const unsigned char*>(text.data()),
                                    static_cast<int>(text.size()));
  if (count < 0) return fail(ErrorCode::kCorrupt, "not base64");
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  bytes.resize(static_cast<std::size_t>(count) - padding);
  return bytes;
}

}  // namespace farside::wsman
