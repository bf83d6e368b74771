#include "common/wsman/client.h"

#include <fmt/format.h>

#include "common/wsman/wmi_path.h"

namespace farside::wsman {
namespace {

// The host's own limit comes first, so that its fault arrives before we hang up.
constexpr Micros kAnswerSlack{10'000'000};

}  // namespace

Client::Client(ClientOptions options, std::unique_ptr<Channel> channel, Random& random)
    : options_(std::move(options)), channel_(std::move(channel)), random_(random) {}

EnvelopeFrame Client::frame() {
  return EnvelopeFrame{.to = options_.url,
                       .message_id = random_.uuid(),
                       .envelope_bytes_max = options_.envelope_bytes_max,
                       .operation_within = options_.answer_within};
}

Result<std::string> Client::ask(const std::string& envelope) {
  FARSIDE_ASSIGN(SoapReply reply, channel_->ask(envelope, options_.answer_within + kAnswerSlack));
  if (reply.xml.empty()) {
    return fail(ErrorCode::kPlatform,
                fmt::format("{} answered {} and nothing else", options_.url, reply.status),
                "check that the URL is that of the host's WinRM");
  }
  return std::move(reply.xml);
}

Result<Identity> Client::identify() {
  FARSIDE_ASSIGN(const std::string xml, ask(write_identify()));
  return read_identity(xml);
}

Result<std::vector<Instance>> Client::query(const std::string& wql, const std::string& name_space) {
  const auto in_query = [&](const Error& error) { return fail(error.in("query " + wql)); };
  std::vector<Instance> all;
  std::string envelope = write_enumerate(frame(), name_space, wql, options_.elements_max);
  while (true) {
    const auto xml = ask(envelope);
    if (!xml) return in_query(xml.error());
    auto page = read_page(*xml);
    if (!page) return in_query(page.error());
    for (Instance& item : page->items) all.push_back(std::move(item));
    if (page->context.empty()) return all;
    if (all.size() > options_.objects_max) {
      // Only frees memory on the host, which otherwise waits for the context to expire.
      if (const auto released = ask(write_release(frame(), name_space, page->context)); !released) {
        return in_query(released.error());
      }
      return in_query(Error{ErrorCode::kTooLarge,
                            fmt::format("more than {} objects", options_.objects_max), ""});
    }
    envelope = write_pull(frame(), name_space, page->context, options_.elements_max);
  }
}

Result<std::vector<Instance>> Client::associators(const Reference& of, std::string_view association,
                                                  std::string_view result) {
  return query(associators_query(of, association, result), of.name_space);
}

Result<Instance> Client::get(const Reference& object) {
  const auto xml = ask(write_get(frame(), object));
  auto instance = xml ? read_object(*xml) : fail(xml.error());
  if (!instance) return fail(instance.error().in("get " + to_wmi_path(object)));
  return instance;
}

Result<Instance> Client::invoke(const Reference& object, const std::string& method,
                                const Parameters& parameters) {
  const auto xml = ask(write_invoke(frame(), object, method, parameters));
  auto output = xml ? read_output(*xml, method) : fail(xml.error());
  if (!output) return fail(output.error().in("call " + object.class_name + "." + method));
  return output;
}

Reference service(const std::string& class_name) {
  return Reference{.class_name = class_name, .keys = {{"CreationClassName", class_name}}};
}

}  // namespace farside::wsman
