#include "services/agent/view/views.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "common/base/log.h"

namespace farside::replica {
namespace {

std::string default_plugin() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string beside = self.parent_path().string() + "/farside_view.so";
  if (access(beside.c_str(), R_OK) == 0) return beside;
  return "/usr/lib/farside/farside_view.so";
}

}  // namespace

Views::Views(std::string run_folder, std::string plugin, bool served, Share share)
    : run_folder_(std::move(run_folder)),
      plugin_(plugin.empty() ? default_plugin() : std::move(plugin)),
      served_(served),
      share_(std::move(share)) {}

std::string Views::socket_of(const Item& item, const std::string& view) const {
  // The same after every restart, and short whatever the folders are called.
  return fmt::format("{}/{:016x}.nbd", run_folder_, hash_of(item.folder() + "/" + view));
}

ViewProcess Views::process(const Item& item, const std::string& view, std::uint64_t seq) const {
  return ViewProcess({.folder = item.folder(),
                      .view = view,
                      .seq = seq,
                      .socket = socket_of(item, view),
                      .plugin = plugin_});
}

Status Views::start(const Item& item, const std::string& view, std::uint64_t seq) const {
  ViewProcess serving = process(item, view, seq);
  const bool is_in_use = serving.is_alive();
  FARSIDE_TRY(serving.start());
  if (!share_) return {};
  Status shared = share_(socket_of(item, view));
  // One that nobody may use would count as served from now on; one that is in use was shared.
  if (!shared && !is_in_use) FARSIDE_TRY(serving.stop());
  return shared;
}

Result<OpenView> Views::open(Item& item, const std::string& view, std::uint64_t seq) {
  FARSIDE_TRY(make_folders(run_folder_));
  const bool was_pinned = item.pins().contains(view);
  FARSIDE_TRY(item.pin(view, seq));
  if (!served_) return OpenView{.socket = {}, .seq = seq};
  const Status started = start(item, view, seq);
  if (!started) {
    if (!was_pinned) {
      const Status closed = close(item, view);
      if (!closed) log::warn("view_not_closed", {{"view", view}, {"error", closed.error()}});
    }
    return fail(started.error());
  }
  return OpenView{.socket = socket_of(item, view), .seq = seq};
}

Status Views::close(Item& item, const std::string& view) {
  if (served_) FARSIDE_TRY(process(item, view, 0).stop());
  return item.unpin(view);
}

Result<int> Views::revive(Item& item) {
  if (!served_) return 0;
  int revived = 0;
  for (const auto& [view, seq] : item.pins()) {
    if (is_alive(item, view)) continue;
    FARSIDE_TRY(open(item, view, seq));
    log::warn("view_revived", {{"replica", item.folder()}, {"view", view}});
    ++revived;
  }
  return revived;
}

std::string Views::last_error(const Item& item, const std::string& view) const {
  return served_ ? process(item, view, 0).last_error() : std::string();
}

bool Views::is_alive(Item& item, const std::string& view) const {
  return process(item, view, 0).is_alive();
}

}  // namespace farside::replica
