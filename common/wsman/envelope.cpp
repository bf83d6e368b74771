#include "common/wsman/envelope.h"

#include <fmt/format.h>

#include "common/wsman/cim_xml.h"
#include "common/wsman/uris.h"
#include "common/wsman/xml.h"

namespace farside::wsman {
namespace {

std::string selector_set(const std::map<std::string, std::string>& keys) {
  if (keys.empty()) return {};
  std::string set = "<w:SelectorSet>";
  for (const auto& [name, value] : keys) {
    set += fmt::format(R"(<w:Selector Name="{}">{}</w:Selector>)", xml_escape(name),
                       xml_escape(value));
  }
  return set + "</w:SelectorSet>";
}

std::string option_set(const std::map<std::string, std::string>& options) {
  if (options.empty()) return {};
  std::string set = "<w:OptionSet>";
  for (const auto& [name, value] : options) {
    set += fmt::format(R"(<w:Option Name="{}">{}</w:Option>)", xml_escape(name), xml_escape(value));
  }
  return set + "</w:OptionSet>";
}

}  // namespace

std::string write_envelope(const EnvelopeFrame& frame, const Target& target,
                           std::string_view action, std::string_view body) {
  return fmt::format(
      R"(<?xml version="1.0" encoding="UTF-8"?>)"
      R"(<s:Envelope xmlns:s="{}" xmlns:a="{}" xmlns:w="{}" xmlns:n="{}" xmlns:xsi="{}">)"
      R"(<s:Header><a:To>{}</a:To>)"
      R"(<w:ResourceURI s:mustUnderstand="true">{}</w:ResourceURI>)"
      R"(<a:ReplyTo><a:Address s:mustUnderstand="true">{}</a:Address></a:ReplyTo>)"
      R"(<a:Action s:mustUnderstand="true">{}</a:Action>)"
      R"(<w:MaxEnvelopeSize s:mustUnderstand="true">{}</w:MaxEnvelopeSize>)"
      R"(<a:MessageID>uuid:{}</a:MessageID>)"
      R"(<w:Locale xml:lang="en-US" s:mustUnderstand="false"/>)"
      R"(<w:OperationTimeout>PT{:.3f}S</w:OperationTimeout>{}{}</s:Header>)"
      R"(<s:Body>{}</s:Body></s:Envelope>)",
      kSoap, kAddressing, kWsman, kEnumeration, kXsi, xml_escape(frame.to),
      xml_escape(target.resource_uri), kAnonymous, xml_escape(action), frame.envelope_bytes_max,
      xml_escape(frame.message_id), static_cast<double>(frame.operation_within.count()) / 1e6,
      option_set(target.options), selector_set(target.selectors), body);
}

namespace {

std::string envelope(const EnvelopeFrame& frame, const Reference& object, std::string_view action,
                     std::string_view body) {
  return write_envelope(frame, {.resource_uri = resource_uri(object), .selectors = object.keys},
                        action, body);
}

Reference all_of(std::string_view name_space) {
  return Reference{.class_name = "*", .keys = {}, .name_space = std::string(name_space)};
}

std::string parameter(const std::string& name, const Value& value) {
  if (const auto* array = std::get_if<Array>(&value.of)) {
    std::string items;
    for (const Value& item : array->items) items += parameter(name, item);
    return items;
  }
  if (value.is_null()) return fmt::format(R"(<p:{} xsi:nil="true"/>)", name);
  std::string content;
  if (const auto* scalar = std::get_if<Scalar>(&value.of)) {
    content = xml_escape(scalar->text);
  } else if (const auto* reference = std::get_if<Reference>(&value.of)) {
    content = write_reference(*reference);
  } else if (const auto* embedded = std::get_if<std::vector<Instance>>(&value.of)) {
    // As a text: hosts refuse the element tree of WS-CIM with a SchemaValidationError.
    content = embedded->empty() ? "" : xml_escape(to_cim_xml(embedded->front()));
  }
  return fmt::format("<p:{}>{}</p:{}>", name, content, name);
}

}  // namespace

std::string write_identify() {
  return fmt::format(
      R"(<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{}" xmlns:i="{}">)"
      R"(<s:Header/><s:Body><i:Identify/></s:Body></s:Envelope>)",
      kSoap, kIdentity);
}

std::string write_enumerate(const EnvelopeFrame& frame, std::string_view name_space,
                            std::string_view wql, std::uint32_t elements_max) {
  const std::string body =
      fmt::format(R"(<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>{}</w:MaxElements>)"
                  R"(<w:Filter Dialect="{}">{}</w:Filter></n:Enumerate>)",
                  elements_max, kWql, xml_escape(wql));
  return envelope(frame, all_of(name_space), std::string(kEnumeration) + "/Enumerate", body);
}

std::string write_pull(const EnvelopeFrame& frame, std::string_view name_space,
                       std::string_view context, std::uint32_t elements_max) {
  const std::string body = fmt::format(R"(<n:Pull><n:EnumerationContext>{}</n:EnumerationContext>)"
                                       R"(<n:MaxElements>{}</n:MaxElements></n:Pull>)",
                                       xml_escape(context), elements_max);
  return envelope(frame, all_of(name_space), std::string(kEnumeration) + "/Pull", body);
}

std::string write_release(const EnvelopeFrame& frame, std::string_view name_space,
                          std::string_view context) {
  const std::string body =
      fmt::format(R"(<n:Release><n:EnumerationContext>{}</n:EnumerationContext></n:Release>)",
                  xml_escape(context));
  return envelope(frame, all_of(name_space), std::string(kEnumeration) + "/Release", body);
}

std::string write_get(const EnvelopeFrame& frame, const Reference& object) {
  return envelope(frame, object, std::string(kTransfer) + "/Get", "");
}

std::string write_invoke(const EnvelopeFrame& frame, const Reference& object,
                         std::string_view method, const Parameters& parameters) {
  std::string body =
      fmt::format(R"(<p:{}_INPUT xmlns:p="{}">)", method, xml_escape(resource_uri(object)));
  for (const auto& [name, value] : parameters) body += parameter(name, value);
  body += fmt::format("</p:{}_INPUT>", method);
  return envelope(frame, object, resource_uri(object) + "/" + std::string(method), body);
}

std::string write_reference(const Reference& reference) {
  return fmt::format(
      "<a:Address>{}</a:Address><a:ReferenceParameters><w:ResourceURI>{}</w:ResourceURI>{}"
      "</a:ReferenceParameters>",
      kAnonymous, xml_escape(resource_uri(reference)), selector_set(reference.keys));
}

}  // namespace farside::wsman
