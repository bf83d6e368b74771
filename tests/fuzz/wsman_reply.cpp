// Whatever a host answers is read or refused with a reason; embedded objects and paths in it, too.
#include "common/wsman/reply.h"

#include "common/wsman/cim_xml.h"
#include "common/wsman/recorder.h"
#include "common/wsman/wmi_path.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace farside;         // The names of the target.
using namespace farside::wsman;  // Likewise.

template <class T>
void has_reason(const Result<T>& result) {
  FARSIDE_ASSERT(result || !result.error().what.empty());
}

void look_at(const Instance& instance) {
  for (const auto& [name, value] : instance.properties) {
    has_reason(instance.reference(name));
    has_reason(instance.instances(name));
    has_reason(instance.numbers(name));
    instance.texts(name);
    instance.flag(name);
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::bytes(data, size);
  has_reason(read_identity(text));
  has_reason(read_output(text, "Do"));
  if (const auto page = read_page(text)) {
    for (const Instance& item : page->items) look_at(item);
  }
  const auto object = read_object(text);
  has_reason(object);
  if (object) look_at(*object);
  // What was read comes back when it is written, but for what has no value.
  if (const auto instance = parse_cim_xml(text)) {
    look_at(*instance);
    const std::string written = to_cim_xml(*instance);
    const auto again = parse_cim_xml(written);
    FARSIDE_ASSERT(again);
    FARSIDE_ASSERT(to_cim_xml(*again) == written);
  }
  if (const auto path = parse_wmi_path(text); path && !path->host.contains('/')) {
    const auto again = parse_wmi_path(to_wmi_path(*path));
    FARSIDE_ASSERT(again || path->host.empty());
  }
  (void)for_recording(std::string(text));
  return 0;
}
