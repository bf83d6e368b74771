#include "common/wsman/recorder.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "common/wsman/xml.h"

namespace farside::wsman {
namespace {

std::string file_name(const std::string& folder, int count, const std::string& what) {
  return fmt::format("{}/{:04}-{}.xml", folder, count, what);
}

Status write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) return fail(ErrorCode::kIo, "write " + path, "free space, or turn recording off");
  return {};
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}

void scrub(pugi::xml_node node, int depth) {
  if (depth > kXmlDepthMax) return;
  for (pugi::xml_node one : node.children()) {
    if (one.type() != pugi::node_element) continue;
    const bool is_secret =
        local_name(one).contains("Password") || attribute(one, "NAME").contains("Password");
    if (is_secret || is_named(one, "MessageID") || is_named(one, "RelatesTo")) {
      one.remove_children();
      continue;
    }
    // Embedded objects are XML inside a text.
    if (const std::string text = text_of(one); text.starts_with("<INSTANCE")) {
      one.text().set(for_recording(text).c_str());
    }
    scrub(one, depth + 1);
  }
}

struct StringWriter final : pugi::xml_writer {
  std::string out;
  void write(const void* bytes, std::size_t count) override {
    out.append(static_cast<const char*>(bytes), count);
  }
};

}  // namespace

std::string for_recording(const std::string& xml) {
  pugi::xml_document document;
  if (!load_xml(document, xml)) return "<!-- not XML -->";
  scrub(document.root(), 0);
  StringWriter writer;
  document.save(writer, "", pugi::format_raw | pugi::format_no_declaration);
  return writer.out;
}

RecordingChannel::RecordingChannel(std::unique_ptr<Channel> inner, std::string folder)
    : inner_(std::move(inner)), folder_(std::move(folder)) {}

Result<SoapReply> RecordingChannel::ask(const std::string& envelope, Micros within) {
  ++count_;
  FARSIDE_TRY(write_file(file_name(folder_, count_, "request"), for_recording(envelope)));
  FARSIDE_ASSIGN(SoapReply reply, inner_->ask(envelope, within));
  FARSIDE_TRY(write_file(file_name(folder_, count_, fmt::format("response-{}", reply.status)),
                         for_recording(reply.xml)));
  return reply;
}

Result<SoapReply> ReplayingChannel::ask(const std::string& envelope, Micros) {
  ++count_;
  const std::string request = file_name(folder_, count_, "request");
  if (!std::filesystem::exists(request)) {
    return fail(ErrorCode::kNotFound, fmt::format("{} has no exchange {}", folder_, count_));
  }
  if (read_file(request) != for_recording(envelope)) {
    return fail(ErrorCode::kConflict, request + " asks for something else");
  }
  for (const long status : {200L, 400L, 401L, 403L, 404L, 500L, 503L}) {
    const std::string response = file_name(folder_, count_, fmt::format("response-{}", status));
    if (std::filesystem::exists(response)) {
      return SoapReply{.status = status, .xml = read_file(response)};
    }
  }
  return fail(ErrorCode::kNotFound, request + " was never answered");
}

}  // namespace farside::wsman
