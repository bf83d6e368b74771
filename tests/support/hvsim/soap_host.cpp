#include "tests/support/hvsim/soap_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/wsman/cim_xml.h"
#include "common/wsman/envelope.h"
#include "common/wsman/uris.h"
#include "common/wsman/xml.h"
#include "tests/support/hvsim/shell_host.h"
#include "tests/support/hvsim/wql.h"

namespace farside::hvsim {
namespace {

using namespace wsman;  // The names of WS-Management.

constexpr std::size_t kFrameBytes = 2048;  // Of an answer, around its items.
constexpr std::size_t kEnvelopeBytesMin = 8192;
constexpr std::size_t kEnvelopeBytesDefault = 153'600;

// Faults travel as errors: "subcode|code|status|text" in `what`.
std::unexpected<Error> fault(const char* subcode, std::uint64_t code, int status,
                             const std::string& text) {
  return fail(ErrorCode::kPlatform, fmt::format("{}|{}|{}|{}", subcode, code, status, text));
}

std::unexpected<Error> schema_fault(const std::string& text) {
  return fault(
      "w:SchemaValidationError", 2150858817, 400,
      "The WS-Management service cannot process the request because the XML is invalid: " + text);
}

// WMI's own words come wrapped into an internal error of WS-Management.
std::unexpected<Error> wmi_fault(std::uint64_t code, const std::string& text) {
  return fault("w:InternalError", code, 500, text);
}

std::string namespace_of(const pugi::xml_node& node) {
  const std::string name = node.name();
  const std::size_t colon = name.find(':');
  const std::string wanted =
      colon == std::string::npos ? "xmlns" : "xmlns:" + name.substr(0, colon);
  for (pugi::xml_node at = node; at; at = at.parent()) {
    if (const auto found = at.attribute(wanted.c_str())) return found.value();
  }
  return {};
}

bool is_bound(const pugi::xml_node& node, const std::string& prefix, const char* uri) {
  for (pugi::xml_node at = node; at; at = at.parent()) {
    if (const auto found = at.attribute(("xmlns:" + prefix).c_str()))
      return found.value() == std::string_view(uri);
  }
  return false;
}

// Each class is in one namespace only.
const char* home_of(std::string_view class_name) {
  return class_name.starts_with("Win32_") ? "root/cimv2" : kVirtualization;
}

bool is_element(const pugi::xml_node& node, const char* name_space, std::string_view name) {
  return is_named(node, name) && namespace_of(node) == name_space;
}

pugi::xml_node child_of(const pugi::xml_node& node, const char* name_space, std::string_view name) {
  for (const pugi::xml_node& one : node.children()) {
    if (is_element(one, name_space, name)) return one;
  }
  return {};
}

std::string value_xml(const std::string& name, const Value& value) {
  if (const auto* array = std::get_if<Array>(&value.of)) {
    std::string all;
    for (const Value& item : array->items) all += value_xml(name, item);
    return all.empty() ? value_xml(name, Value::null()) : all;
  }
  if (value.is_null()) return fmt::format(R"(<p:{} xsi:nil="true"/>)", name);
  std::string inside;
  if (const auto* scalar = std::get_if<Scalar>(&value.of)) {
    inside = xml_escape(scalar->text);
    if (scalar->type == CimType::kDatetime) inside = "<cim:Datetime>" + inside + "</cim:Datetime>";
  } else if (const auto* reference = std::get_if<Reference>(&value.of)) {
    inside = write_reference(*reference);
  } else if (const auto* embedded = std::get_if<std::vector<Instance>>(&value.of)) {
    inside = xml_escape(to_cim_xml(embedded->front()));
  }
  return fmt::format("<p:{}>{}</p:{}>", name, inside, name);
}

std::string instance_xml(const Instance& instance) {
  const Reference type{
      .class_name = instance.class_name, .keys = {}, .name_space = home_of(instance.class_name)};
  std::string xml = fmt::format(R"(<p:{} xmlns:p="{}" xmlns:cim="{}" xsi:type="p:{}_Type">)",
                                instance.class_name, resource_uri(type), kCim, instance.class_name);
  for (const auto& [name, value] : instance.properties) xml += value_xml(name, value);
  return xml + fmt::format("</p:{}>", instance.class_name);
}

std::string envelope_xml(const std::string& action, const std::string& relates_to,
                         const std::string& body, Random& random) {
  return fmt::format(
      R"(<s:Envelope xml:lang="en-US" xmlns:s="{}" xmlns:a="{}" xmlns:w="{}" xmlns:n="{}" )"
      R"(xmlns:xsi="{}"><s:Header><a:Action>{}</a:Action><a:MessageID>uuid:{}</a:MessageID>)"
      R"(<a:To>{}</a:To><a:RelatesTo>{}</a:RelatesTo></s:Header><s:Body>{}</s:Body></s:Envelope>)",
      kSoap, kAddressing, kWsman, kEnumeration, kXsi, xml_escape(action), random.uuid(), kAnonymous,
      xml_escape(relates_to), body);
}

// WMI's words are told by its provider, inside of those of WS-Management.
std::string fault_message(const std::string& subcode, const std::string& code,
                          const std::string& text) {
  if (subcode != "w:InternalError") return text;
  return fmt::format(
      R"(<f:ProviderFault provider="WMI Provider" path="%systemroot%\system32\WsmWmiPl.dll">)"
      R"(<f:WSManFault Code="{}" Machine="hvsim"><f:Message>{}</f:Message></f:WSManFault>)"
      R"(</f:ProviderFault>)",
      code, text);
}

SoapAnswer fault_answer(const Error& error, const std::string& relates_to, Random& random) {
  std::vector<std::string> parts;
  std::string rest = error.what;
  for (int i = 0; i < 3; ++i) {
    parts.push_back(rest.substr(0, rest.find('|')));
    rest.erase(0, rest.find('|') + 1);
  }
  const int status = std::stoi(parts[2]);
  const std::string text = xml_escape(rest);
  const std::string message = fault_message(parts[0], parts[1], text);
  const std::string body = fmt::format(
      R"(<s:Fault><s:Code><s:Value>s:{}</s:Value><s:Subcode><s:Value>{}</s:Value></s:Subcode>)"
      R"(</s:Code><s:Reason><s:Text xml:lang="en-US">{} </s:Text></s:Reason><s:Detail>)"
      R"(<f:WSManFault xmlns:f="{}" Code="{}" Machine="hvsim"><f:Message>{}</f:Message>)"
      R"(</f:WSManFault></s:Detail></s:Fault>)",
      status == 500 ? "Receiver" : "Sender", parts[0], text, kWsmanFault, parts[1], message);
  return {.status = status, .xml = envelope_xml(kFaultAction, relates_to, body, random)};
}

// A null, given as the rules of XML Schema want it: an empty element whose attribute is bound.
Result<bool> is_valid_nil(const pugi::xml_node& node) {
  for (const pugi::xml_attribute& one : node.attributes()) {
    const std::string name = one.name();
    if (!name.ends_with(":nil")) continue;
    const std::string value = one.value();
    if (!is_bound(node, name.substr(0, name.find(':')), kXsi)) {
      return schema_fault("nil in an unknown namespace");
    }
    if (value == "false" || value == "0") return false;
    if (value != "true" && value != "1") return schema_fault("nil is neither true nor false");
    if (node.first_child()) return schema_fault("a nil element is not empty");
    return true;
  }
  return false;
}

Result<Reference> read_reference(const pugi::xml_node& node) {
  const pugi::xml_node parameters = child_of(node, kAddressing, "ReferenceParameters");
  const pugi::xml_node address = child_of(node, kAddressing, "Address");
  const std::string uri = text_of(child_of(parameters, kWsman, "ResourceURI"));
  if (!parameters || !address || !uri.starts_with(kWmi)) {
    return schema_fault("not a reference: " + std::string(node.name()));
  }
  Reference reference{.class_name = uri.substr(uri.rfind('/') + 1), .keys = {}};
  for (const pugi::xml_node& one : child_of(parameters, kWsman, "SelectorSet").children()) {
    reference.keys[attribute(one, "Name")] = text_of(one);
  }
  return reference;
}

Result<Value> read_parameter(const pugi::xml_node& node, ParameterKind kind) {
  FARSIDE_ASSIGN(const bool is_null, is_valid_nil(node));
  if (is_null) return Value::null();
  if (kind == ParameterKind::kReference) {
    FARSIDE_ASSIGN(Reference reference, read_reference(node));
    return Value::reference(std::move(reference));
  }
  // The element tree of WS-CIM is what real hosts refuse, too.
  if (first_element(node)) return schema_fault("an element inside of " + std::string(node.name()));
  const std::string text = text_of(node);
  if (kind == ParameterKind::kEmbedded) {
    auto instance = parse_cim_xml(text);
    if (!instance) return schema_fault(instance.error().what);
    return Value::embedded(std::move(*instance));
  }
  if (kind == ParameterKind::kNumber) {
    if (!parse_number(text)) return schema_fault("not a number: " + text);
    return Value{Scalar{.type = CimType::kUint64, .text = text}};
  }
  if (kind == ParameterKind::kFlag && text != "true" && text != "false" && text != "0" &&
      text != "1") {
    return schema_fault("not a boolean: " + text);
  }
  return Value::text(text);
}

Result<std::map<std::string, Value>> read_parameters(const pugi::xml_node& input,
                                                     const std::vector<ParameterShape>& shape) {
  std::map<std::string, Value> parameters;
  const std::string name_space = namespace_of(input);
  for (const pugi::xml_node& node : input.children()) {
    if (node.type() != pugi::node_element) continue;
    const std::string name(local_name(node));
    const auto known = std::ranges::find(shape, name, &ParameterShape::name);
    if (known == shape.end() || namespace_of(node) != name_space) {
      return schema_fault("no parameter " + std::string(node.name()));
    }
    FARSIDE_ASSIGN(Value value, read_parameter(node, known->kind));
    const auto [at, is_new] = parameters.try_emplace(name);
    if (known->is_array) {
      if (is_new) at->second = Value::list({});
      std::get<Array>(at->second.of).items.push_back(std::move(value));
    } else if (is_new) {
      at->second = std::move(value);
    } else {
      return schema_fault("twice: " + name);
    }
  }
  for (const ParameterShape& one : shape) {
    if (one.is_required && !parameters.contains(one.name)) {
      return wmi_fault(0x80041008, "Invalid parameter: " + one.name + " is missing");
    }
  }
  return parameters;
}

}  // namespace

struct SoapHost::Request {
  pugi::xml_node header;
  pugi::xml_node body;
  std::string action;
  std::string message_id;
  Reference target;  // Its class is "*" for all classes.
  std::size_t envelope_bytes_max = kEnvelopeBytesDefault;
  std::string answer_action;

  Status read_header(std::size_t own_max);
};

Status SoapHost::Request::read_header(std::size_t own_max) {
  static const std::set<std::string> kKnown{
      "To",        "ResourceURI", "ReplyTo",     "Action",           "MaxEnvelopeSize",
      "Locale",    "MessageID",   "DataLocale",  "OperationTimeout", "SelectorSet",
      "OptionSet", "SessionId",   "OperationID", "SequenceId",       "From",
      "FaultTo"};
  for (const pugi::xml_node& one : header.children()) {
    if (one.type() != pugi::node_element) continue;
    const std::string name(local_name(one));
    const std::string must = attribute(one, "mustUnderstand");
    const std::string uri = namespace_of(one);
    const bool is_known =
        kKnown.contains(name) && (uri == kAddressing || uri == kWsman ||
                                  uri.starts_with("http://schemas.microsoft.com/wbem/wsman/"));
    if (!is_known && (must == "true" || must == "1")) {
      return fault("s:MustUnderstand", 2150858805, 500,
                   "The SOAP header " + name + " was not understood.");
    }
  }
  action = text_of(child_of(header, kAddressing, "Action"));
  message_id = text_of(child_of(header, kAddressing, "MessageID"));
  const std::string uri = text_of(child_of(header, kWsman, "ResourceURI"));
  if (action.empty() || message_id.empty() || !child_of(header, kAddressing, "To") ||
      !child_of(header, kAddressing, "ReplyTo")) {
    return fault("a:MessageInformationHeaderRequired", 2150858766, 400,
                 "A WS-Addressing header is missing.");
  }
  for (const char* home : {kVirtualization, "root/cimv2"}) {
    const std::string prefix = std::string(kWmi) + home + "/";
    if (!uri.starts_with(prefix)) continue;
    target.class_name = uri.substr(prefix.size());
    target.name_space = home;
  }
  if (target.class_name.empty()) {
    return fault("a:DestinationUnreachable", 2150858752, 500,
                 "The resource URI was not found: " + uri);
  }
  for (const pugi::xml_node& one : child_of(header, kWsman, "SelectorSet").children()) {
    if (!is_element(one, kWsman, "Selector") || attribute(one, "Name").empty()) {
      return schema_fault("a selector without a name");
    }
    target.keys[attribute(one, "Name")] = text_of(one);
  }
  if (const pugi::xml_node size = child_of(header, kWsman, "MaxEnvelopeSize")) {
    const auto bytes = parse_number(text_of(size));
    if (!bytes || *bytes < kEnvelopeBytesMin) {
      return fault("w:InvalidOptions", 2150858761, 400, "MaxEnvelopeSize is too small.");
    }
    envelope_bytes_max = *bytes;
  }
  envelope_bytes_max = std::min(envelope_bytes_max, own_max);
  return {};
}

SoapAnswer SoapHost::answer(const std::string& envelope) {
  if (shell_ != nullptr) {
    if (auto said = shell_->answer(envelope)) return std::move(*said);
  }
  const std::lock_guard lock(mutex_);
  jobs_.advance();
  pugi::xml_document document;
  Request request;
  const auto failed = [&](const Error& error) {
    return fault_answer(error, request.message_id, random_);
  };
  if (envelope.size() > limits_.envelope_bytes_max) {
    return failed(fault("w:EncodingLimit", 2150858787, 500, "The request is too large.").error());
  }
  if (const Status loaded = load_xml(document, envelope); !loaded) {
    return failed(schema_fault(loaded.error().what).error());
  }
  const pugi::xml_node root = first_element(document);
  request.header = child_of(root, kSoap, "Header");
  request.body = first_element(child_of(root, kSoap, "Body"));
  if (!is_element(root, kSoap, "Envelope") || !request.header) {
    return failed(schema_fault("not a SOAP 1.2 envelope").error());
  }
  if (is_element(request.body, kIdentity, "Identify")) {
    const std::string body =
        fmt::format(R"(<i:IdentifyResponse xmlns:i="{}"><i:ProtocolVersion>{}</i:ProtocolVersion>)"
                    R"(<i:ProductVendor>Microsoft Corporation</i:ProductVendor><i:ProductVersion>)"
                    R"(OS: 10.0.20348 SP: 0.0 Stack: 3.0</i:ProductVersion></i:IdentifyResponse>)",
                    kIdentity, kWsman);
    return {.status = 200, .xml = envelope_xml("", "", body, random_)};
  }
  if (const Status read = request.read_header(limits_.envelope_bytes_max); !read) {
    return failed(read.error());
  }
  const auto body = body_for(request);
  if (!body) return failed(body.error());
  std::string xml = envelope_xml(request.answer_action, request.message_id, *body, random_);
  if (xml.size() > request.envelope_bytes_max) {
    return failed(fault("w:EncodingLimit", 2150858788, 500,
                        "The response is larger than the maximum envelope size.")
                      .error());
  }
  return {.status = 200, .xml = std::move(xml)};
}

Result<std::string> SoapHost::body_for(Request& request) {
  const std::string enumeration = kEnumeration;
  const std::string transfer = kTransfer;
  request.answer_action = request.action + "Response";
  if (request.action == enumeration + "/Enumerate") return enumerate(request);
  if (request.action == enumeration + "/Pull") return pull(request);
  if (request.action == enumeration + "/Release") return release(request);
  if (request.target.class_name != "*" &&
      (!objects_.has_class(request.target.class_name) ||
       home_of(request.target.class_name) != request.target.name_space)) {
    return wmi_fault(0x80041010, "Invalid class " + request.target.class_name);
  }
  if (request.action == transfer + "/Get") return get(request);
  return invoke(request);
}

Result<std::string> SoapHost::enumerate(const Request& request) {
  const pugi::xml_node body = request.body;
  if (!is_element(body, kEnumeration, "Enumerate")) return schema_fault("no Enumerate");
  const pugi::xml_node filter = child_of(body, kWsman, "Filter");
  Query query;
  if (filter) {
    if (attribute(filter, "Dialect") != kWql) {
      return fault("n:FilterDialectRequestedUnavailable", 2150858844, 500, "Unknown dialect.");
    }
    if (request.target.class_name != "*") {
      return fault("w:CannotProcessFilter", 2150858843, 500,
                   "The class name must be '*' (star) if a WQL filter is given.");
    }
    auto parsed = parse_wql(text_of(filter));
    if (!parsed) return wmi_fault(0x80041017, parsed.error().what);
    query = std::move(*parsed);
  } else {
    if (request.target.class_name == "*") {
      return fault("w:InvalidOptions", 2150858761, 400, "All classes need a filter.");
    }
    query.class_name = request.target.class_name;
  }
  if (!query.class_name.empty() && home_of(query.class_name) != request.target.name_space) {
    return wmi_fault(0x80041010, "Invalid class " + query.class_name);
  }
  const auto found = run_query(objects_, query);
  if (!found) {
    return wmi_fault(found.error().what == "Not found" ? 0x80041002 : 0x80041010,
                     found.error().what);
  }
  const std::string id = "uuid:" + random_.uuid();
  Context& context = contexts_[id];
  for (const Instance* instance : *found) context.items.push_back(instance_xml(*instance));
  context.expires = clock_.monotonic() + limits_.context_kept;
  if (!child_of(body, kWsman, "OptimizeEnumeration")) {
    return fmt::format(
        "<n:EnumerateResponse><n:EnumerationContext>{}</n:EnumerationContext>"
        "</n:EnumerateResponse>",
        id);
  }
  const auto items_max = parse_number(text_of(child_of(body, kWsman, "MaxElements"))).value_or(1);
  return page(request, id, items_max, true);
}

// As many items as fit; a context that was read to its end is forgotten.
Result<std::string> SoapHost::page(const Request& request, const std::string& id,
                                   std::size_t items_max, bool is_first) {
  Context& context = contexts_.at(id);
  std::string items;
  std::size_t count = 0;
  while (context.next < context.items.size() && count < items_max) {
    const std::string& item = context.items[context.next];
    if (items.size() + item.size() + kFrameBytes > request.envelope_bytes_max) break;
    items += item;
    ++context.next;
    ++count;
  }
  const bool is_last = context.next == context.items.size();
  if (count == 0 && !is_last) {
    return fault("w:EncodingLimit", 2150858788, 500, "One item is larger than the envelope.");
  }
  const char* prefix = is_first ? "w" : "n";
  const char* name = is_first ? "EnumerateResponse" : "PullResponse";
  std::string body =
      fmt::format("<n:{}><n:EnumerationContext>{}</n:EnumerationContext><{}:Items>{}</{}:Items>",
                  name, is_last ? "" : id, prefix, items, prefix);
  if (is_last) {
    body += fmt::format("<{}:EndOfSequence/>", prefix);
    contexts_.erase(id);
  }
  return body + fmt::format("</n:{}>", name);
}

Result<std::string> SoapHost::pull(const Request& request) {
  const std::string id = text_of(child_of(request.body, kEnumeration, "EnumerationContext"));
  const auto context = contexts_.find(id);
  if (context == contexts_.end() || clock_.monotonic() >= context->second.expires) {
    if (context != contexts_.end()) contexts_.erase(context);
    return fault("n:InvalidEnumerationContext", 2150858762, 500,
                 "The enumeration context is not valid: it has expired or ended.");
  }
  const auto items_max =
      parse_number(text_of(child_of(request.body, kEnumeration, "MaxElements"))).value_or(1);
  return page(request, id, items_max, false);
}

Result<std::string> SoapHost::release(const Request& request) {
  contexts_.erase(text_of(child_of(request.body, kEnumeration, "EnumerationContext")));
  return std::string("<n:ReleaseResponse/>");
}

Result<std::string> SoapHost::get(const Request& request) {
  if (request.body) return schema_fault("a Get with a body");
  const Instance* instance = objects_.find(request.target);
  if (instance == nullptr) return wmi_fault(0x80041002, "Not found");
  return instance_xml(*instance);
}

Result<std::string> SoapHost::invoke(const Request& request) {
  const std::string uri = resource_uri(request.target);
  const std::string name = request.action.substr(request.action.rfind('/') + 1);
  const auto method = methods_.find(request.target.class_name + "/" + name);
  if (request.action != uri + "/" + name || method == methods_.end()) {
    return fault("a:ActionNotSupported", 2150858753, 500, "No such action: " + request.action);
  }
  if (!is_named(request.body, name + "_INPUT") || namespace_of(request.body) != uri) {
    return schema_fault("no " + name + "_INPUT of this class");
  }
  const Instance* target = objects_.find(request.target);
  if (target == nullptr) return wmi_fault(0x80041002, "Not found");
  MethodCall call{.target = objects_.reference_to(*target), .parameters = {}};
  FARSIDE_ASSIGN(call.parameters, read_parameters(request.body, method->second.shape));
  const auto result = method->second.handler(call);
  if (!result) return wmi_fault(0x80041001, result.error().what);
  std::string body = fmt::format(R"(<p:{}_OUTPUT xmlns:p="{}" xmlns:cim="{}">)", name, uri, kCim);
  for (const auto& [output, value] : result->outputs) body += value_xml(output, value);
  return body +
         fmt::format("<p:ReturnValue>{}</p:ReturnValue></p:{}_OUTPUT>", result->return_value, name);
}

}  // namespace farside::hvsim
