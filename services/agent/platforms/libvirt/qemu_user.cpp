#include "services/agent/platforms/libvirt/qemu_user.h"

#include <fmt/core.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <vector>

#include "services/agent/platforms/libvirt/connection.h"
#include "services/agent/platforms/libvirt/program.h"
#include "services/agent/platforms/libvirt/xml.h"

namespace farside::agent::libvirt {
namespace {

// "+64055:+64055".
std::optional<QemuUser> parse_label(std::string_view label) {
  const auto number = [](std::string_view text) -> std::optional<std::uint32_t> {
    if (!text.starts_with('+')) return std::nullopt;
    text.remove_prefix(1);
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
  };
  const std::size_t colon = label.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto uid = number(label.substr(0, colon));
  const auto gid = number(label.substr(colon + 1));
  if (!uid || !gid) return std::nullopt;
  return QemuUser{.uid = *uid, .gid = *gid};
}

// Empty: none has that number.
std::string name_of(const QemuUser& user) {
  std::array<char, 4096> room{};
  passwd entry{};
  passwd* found = nullptr;
  ::getpwuid_r(user.uid, &entry, room.data(), room.size(), &found);
  return found == nullptr ? "" : entry.pw_name;
}

constexpr int kRefused = 9;

// The shell's `script` as that user, with `values`; what it said if it ended with kRefused.
std::optional<std::string> refusal_of(const QemuUser& user, const char* script,
                                      const std::vector<std::string>& values) {
  if (::geteuid() != 0 || user.uid == 0) return std::nullopt;
  std::vector<std::string> words = {"setpriv",
                                    fmt::format("--reuid={}", user.uid),
                                    fmt::format("--regid={}", user.gid),
                                    name_of(user).empty() ? "--clear-groups" : "--init-groups",
                                    "--",
                                    "/bin/sh",
                                    "-c",
                                    script,
                                    "sh"};
  words.insert(words.end(), values.begin(), values.end());
  const auto tried = run_program(std::move(words), std::chrono::seconds(10));
  if (!tried || tried->exit_code != kRefused) return std::nullopt;
  std::string said = tried->output;
  while (said.ends_with('\n')) said.pop_back();
  return said;
}

std::string shown(const QemuUser& user) {
  const std::string name = name_of(user);
  return name.empty() ? fmt::format("user {}", user.uid) : name;
}

}  // namespace

Result<std::optional<QemuUser>> read_qemu_user(std::string_view capabilities) {
  FARSIDE_ASSIGN(const auto document, XmlDocument::parse(std::string(capabilities)));
  for (const XmlNode& model : document.root().child("host").children("secmodel")) {
    if (model.child("model").text() != "dac") continue;
    return parse_label(model.child("baselabel").text());
  }
  return std::nullopt;
}

Result<std::optional<QemuUser>> qemu_user_of(virConnectPtr connection) {
  const std::string text = take_text(virConnectGetCapabilities(connection));
  if (text.empty()) return libvirt_error("ask whom QEMU runs as");
  return read_qemu_user(text);
}

std::optional<QemuUser> embedded_qemu_user() {
  if (::geteuid() != 0) return std::nullopt;
  std::array<char, 4096> room{};
  passwd entry{};
  passwd* found = nullptr;
  ::getpwnam_r(kQemuUserName, &entry, room.data(), room.size(), &found);
  if (found == nullptr) return std::nullopt;
  // The group of that name, as the configuration says: Debian's user has another one first.
  std::array<char, 4096> group_room{};
  group group_entry{};
  group* group_found = nullptr;
  ::getgrnam_r(kQemuUserName, &group_entry, group_room.data(), group_room.size(), &group_found);
  return QemuUser{.uid = entry.pw_uid,
                  .gid = group_found == nullptr ? entry.pw_gid : group_entry.gr_gid};
}

Status check_entry(const std::string& folder, const QemuUser& user) {
  std::vector<std::string> ways;
  std::filesystem::path so_far;
  for (const auto& part : std::filesystem::path(folder)) {
    so_far /= part;
    ways.push_back(so_far.string());
  }
  const auto closed =
      refusal_of(user, "for one; do test -x \"$one\" || { echo \"$one\"; exit 9; }; done", ways);
  if (!closed) return {};
  return fail(
      ErrorCode::kForbidden,
      fmt::format("QEMU runs as {} here and may not enter the folder {}", shown(user), *closed),
      fmt::format("run `chmod o+x {}`, or choose another place", *closed));
}

Status check_device(const std::string& path, const QemuUser& user) {
  const auto refused = refusal_of(
      user, "test ! -e \"$1\" || { test -r \"$1\" && test -w \"$1\"; } || exit 9", {path});
  if (!refused) return {};
  return fail(ErrorCode::kForbidden,
              fmt::format("QEMU runs as {} here and may not use {}", shown(user), path),
              fmt::format("let it: `adduser {} kvm`, and start this program again", shown(user)));
}

}  // namespace farside::agent::libvirt
