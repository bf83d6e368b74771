#include "common/wsman/reply.h"

#include "common/wsman/reply_body.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/wsman/uris.h"
#include "common/wsman/xml.h"

namespace farside::wsman {
namespace {

// What WMI and Windows say with a number.
// Source: Microsoft, "WMI Error Constants", "System Error Codes", winerror.h.
constexpr std::uint64_t kWbemNotFound = 0x80041002;
constexpr std::uint64_t kWbemAccessDenied = 0x80041003;
constexpr std::uint64_t kWbemInvalidNamespace = 0x8004100E;
constexpr std::uint64_t kWbemInvalidClass = 0x80041010;
constexpr std::uint64_t kAccessDenied = 5;
constexpr std::uint64_t kAccessDeniedHresult = 0x80070005;
constexpr std::uint64_t kMissingChangeTracking = 0xC03A0030;

struct Fault {
  std::string subcode;  // "w:SchemaValidationError" without its prefix.
  std::string text;
  std::uint64_t code = 0;  // Of Windows; 0: none.
};

// The innermost message and code: providers wrap theirs into that of WS-Management.
void read_detail(const pugi::xml_node& node, int depth, Fault& fault) {
  if (depth > kXmlDepthMax) return;
  for (const pugi::xml_node& one : node.children()) {
    if (one.type() != pugi::node_element) continue;
    if (is_named(one, "WSManFault")) {
      fault.code = parse_number(attribute(one, "Code")).value_or(fault.code);
    }
    if (is_named(one, "Message")) {
      if (std::string text = text_of(one); !text.empty()) fault.text = std::move(text);
    }
    read_detail(one, depth + 1, fault);
  }
}

Error to_error(const Fault& fault) {
  Error error{.code = ErrorCode::kPlatform, .what = "", .advice = ""};
  error.what = fmt::format("the host says: {} (subcode {}, code {:#x})", fault.text, fault.subcode,
                           fault.code);
  if (fault.code == kMissingChangeTracking) {
    error.code = ErrorCode::kTrackingLost;
  } else if (fault.subcode == "AccessDenied" || fault.code == kWbemAccessDenied ||
             fault.code == kAccessDenied || fault.code == kAccessDeniedHresult) {
    error.code = ErrorCode::kForbidden;
    error.advice =
        "put the user into the host's groups Hyper-V Administrators and Remote Management Users";
  } else if (fault.code == kWbemNotFound) {
    error.code = ErrorCode::kNotFound;
  } else if (fault.subcode == "DestinationUnreachable" || fault.code == kWbemInvalidNamespace ||
             fault.code == kWbemInvalidClass) {
    error.code = ErrorCode::kNotFound;
    error.advice = "check that the Hyper-V role is installed on the host";
  } else if (fault.subcode == "TimedOut") {
    error.code = ErrorCode::kTimeout;
    error.advice = "see what keeps the host busy; raise MaxTimeoutms of its WinRM if it is slow";
  } else if (fault.subcode == "EncodingLimit") {
    error.code = ErrorCode::kTooLarge;
    error.advice = "raise MaxEnvelopeSizekb of the host's WinRM to 500 or more";
  } else if (fault.subcode == "QuotaLimit") {
    error.code = ErrorCode::kUnavailable;
    error.advice = "raise the quotas of the host's WinRM (winrm get winrm/config/service)";
  } else {
    error.advice = "look the code up in the host's event log Microsoft-Windows-WinRM/Operational";
  }
  return error;
}

Error fault_error(const pugi::xml_node& node) {
  Fault fault;
  // The outermost subcode is that of WS-Management.
  const pugi::xml_node subcode = child(child(node, "Code"), "Subcode");
  const std::string name = text_of(child(subcode, "Value"));
  fault.subcode = name.substr(name.find(':') == std::string::npos ? 0 : name.find(':') + 1);
  fault.text = text_of(child(child(node, "Reason"), "Text"));
  read_detail(child(node, "Detail"), 0, fault);
  while (!fault.text.empty() && (std::isspace(static_cast<unsigned char>(fault.text.back())) != 0))
    fault.text.pop_back();
  return to_error(fault);
}

}  // namespace

Result<pugi::xml_node> read_body(pugi::xml_document& document, std::string_view xml) {
  FARSIDE_TRY(load_xml(document, xml));
  const pugi::xml_node envelope = first_element(document);
  const pugi::xml_node body = child(envelope, "Body");
  if (!is_named(envelope, "Envelope") || !body) {
    return fail(ErrorCode::kCorrupt, "not a SOAP envelope",
                "check that the address and port are those of the host's WinRM");
  }
  const pugi::xml_node first = first_element(body);
  if (is_named(first, "Fault")) return fail(fault_error(first));
  return first;
}

namespace {

std::unexpected<Error> unexpected_reply(const pugi::xml_node& node, std::string_view wanted) {
  return fail(ErrorCode::kCorrupt,
              fmt::format("{} in the reply instead of {}", std::string(node.name()), wanted));
}

Instance read_instance(const pugi::xml_node& node, int depth);

Value read_reference(const pugi::xml_node& node) {
  const pugi::xml_node parameters = child(node, "ReferenceParameters");
  Reference reference;
  const std::string uri = text_of(child(parameters, "ResourceURI"));
  const std::size_t slash = uri.rfind('/');
  const std::string_view prefix = kWmi;
  if (slash == std::string::npos || !uri.starts_with(prefix) || slash < prefix.size()) return {};
  reference.class_name = uri.substr(slash + 1);
  reference.name_space = uri.substr(prefix.size(), slash - prefix.size());
  for (char& c : reference.name_space) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  for (const pugi::xml_node& one : child(parameters, "SelectorSet").children()) {
    if (is_named(one, "Selector")) reference.keys[attribute(one, "Name")] = text_of(one);
  }
  return Value::reference(std::move(reference));
}

Value read_value(const pugi::xml_node& node, int depth) {
  if (is_nil(node)) return {};
  const pugi::xml_node first = first_element(node);
  if (!first) return Value::text(text_of(node));
  if (child(node, "ReferenceParameters")) return read_reference(node);
  // <cim:Datetime>2026-…Z</cim:Datetime>, and its like for intervals.
  if (is_named(first, "Datetime") || is_named(first, "Interval") || is_named(first, "Date") ||
      is_named(first, "Time")) {
    return Value{Scalar{.type = CimType::kDatetime, .text = text_of(first)}};
  }
  if (depth >= kXmlDepthMax) return {};
  return Value::embedded(read_instance(node, depth + 1));
}

// Elements of one name that follow each other, or not, are one array.
Instance read_instance(const pugi::xml_node& node, int depth) {
  Instance instance{.class_name = std::string(local_name(node)), .properties = {}};
  for (const pugi::xml_node& one : node.children()) {
    if (one.type() != pugi::node_element) continue;
    Value value = read_value(one, depth);
    const auto [at, is_new] = instance.properties.try_emplace(std::string(local_name(one)));
    if (is_new) {
      at->second = std::move(value);
      continue;
    }
    if (!std::holds_alternative<Array>(at->second.of)) {
      std::vector<Value> items;
      items.push_back(std::move(at->second));
      at->second = Value::list(std::move(items));
    }
    std::get<Array>(at->second.of).items.push_back(std::move(value));
  }
  return instance;
}

}  // namespace

Result<Identity> read_identity(std::string_view xml) {
  pugi::xml_document document;
  FARSIDE_ASSIGN(const pugi::xml_node node, read_body(document, xml));
  if (!is_named(node, "IdentifyResponse")) return unexpected_reply(node, "IdentifyResponse");
  return Identity{.protocol = text_of(child(node, "ProtocolVersion")),
                  .vendor = text_of(child(node, "ProductVendor")),
                  .version = text_of(child(node, "ProductVersion"))};
}

Result<EnumerationPage> read_page(std::string_view xml) {
  pugi::xml_document document;
  FARSIDE_ASSIGN(const pugi::xml_node node, read_body(document, xml));
  if (!is_named(node, "EnumerateResponse") && !is_named(node, "PullResponse")) {
    return unexpected_reply(node, "EnumerateResponse or PullResponse");
  }
  EnumerationPage page;
  for (const pugi::xml_node& item : child(node, "Items").children()) {
    if (item.type() != pugi::node_element) continue;
    const bool is_wrapped = is_named(item, "XmlFragment") || is_named(item, "Item");
    page.items.push_back(read_instance(is_wrapped ? first_element(item) : item, 0));
  }
  if (!child(node, "EndOfSequence")) page.context = text_of(child(node, "EnumerationContext"));
  return page;
}

Result<Instance> read_object(std::string_view xml) {
  pugi::xml_document document;
  FARSIDE_ASSIGN(const pugi::xml_node node, read_body(document, xml));
  if (!node) return fail(ErrorCode::kCorrupt, "no object in the reply");
  return read_instance(node, 0);
}

Result<Instance> read_output(std::string_view xml, std::string_view method) {
  pugi::xml_document document;
  FARSIDE_ASSIGN(const pugi::xml_node node, read_body(document, xml));
  const std::string wanted = std::string(method) + "_OUTPUT";
  if (!is_named(node, wanted)) return unexpected_reply(node, wanted);
  return read_instance(node, 0);
}

Status read_released(std::string_view xml) {
  pugi::xml_document document;
  FARSIDE_TRY(read_body(document, xml));
  return {};
}

}  // namespace farside::wsman
