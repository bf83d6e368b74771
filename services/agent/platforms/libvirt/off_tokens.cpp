#include "services/agent/platforms/libvirt/off_tokens.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

#include "common/base/file.h"
#include "common/base/file_name.h"
#include "common/base/log.h"

namespace farside::agent::libvirt {
namespace {

// Attempts that were given up leave tokens; only the newest of them can be asked for again.
constexpr std::size_t kTokensMax = 16;

std::unexpected<Error> failed(const char* doing, const std::string& path) {
  const int number = errno;
  return fail(number == ENOSPC ? ErrorCode::kNoSpace : ErrorCode::kIo,
              fmt::format("{} {}: {}", doing, path, std::strerror(number)));
}

nlohmann::json encode(const OffToken& token) {
  nlohmann::json disks = nlohmann::json::array();
  for (const OffDiskState& disk : token.disks) {
    nlohmann::json chain = nlohmann::json::array();
    for (const FileState& file : disk.chain) {
      chain.push_back({{"path", file.path},
                       {"device", file.device},
                       {"inode", file.inode},
                       {"bytes", file.bytes},
                       {"modified_ns", file.modified_ns},
                       {"changed_ns", file.changed_ns}});
    }
    disks.push_back({{"name", disk.name}, {"bytes", disk.bytes}, {"chain", std::move(chain)}});
  }
  return {{"token", token.token}, {"base", token.base}, {"disks", std::move(disks)}};
}

OffToken decode(const nlohmann::json& from) {
  OffToken token{.token = from.at("token"), .base = from.at("base"), .disks = {}};
  for (const auto& disk : from.at("disks")) {
    OffDiskState state{.name = disk.at("name"), .bytes = disk.at("bytes"), .chain = {}};
    for (const auto& file : disk.at("chain")) {
      state.chain.push_back({.path = file.at("path"),
                             .device = file.at("device"),
                             .inode = file.at("inode"),
                             .bytes = file.at("bytes"),
                             .modified_ns = file.at("modified_ns"),
                             .changed_ns = file.at("changed_ns")});
    }
    token.disks.push_back(std::move(state));
  }
  return token;
}

bool sync(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return false;
  const bool is_synced = ::fsync(fd) == 0;
  ::close(fd);
  return is_synced;
}

}  // namespace

Result<OffTokens> OffTokens::open(std::string folder) {
  FARSIDE_TRY(make_folders(folder));
  return OffTokens(std::move(folder));
}

Result<std::vector<OffToken>> OffTokens::read(const std::string& vm_id) const {
  FARSIDE_TRY(check_file_name("VM", vm_id));
  const std::string path = fmt::format("{}/{}.json", folder_, vm_id);
  std::error_code error;
  if (!std::filesystem::exists(path, error) && !error) return std::vector<OffToken>{};
  std::ifstream file(path);
  if (!file) return failed("open", path);
  std::stringstream text;
  text << file.rdbuf();
  std::vector<OffToken> tokens;
  try {
    const auto parsed = nlohmann::json::parse(text.str());
    for (const auto& each : parsed.at("tokens")) tokens.push_back(decode(each));
  } catch (const nlohmann::json::exception& broken) {
    // Without its tokens a VM is compared by hash, which is always right.
    log::error("off_tokens_unreadable", {{"file", path}, {"error", broken.what()}});
    return std::vector<OffToken>{};
  }
  return tokens;
}

Status OffTokens::write(const std::string& vm_id, const std::vector<OffToken>& tokens) const {
  nlohmann::json list = nlohmann::json::array();
  for (const OffToken& token : tokens) list.push_back(encode(token));
  FARSIDE_TRY(check_file_name("VM", vm_id));
  const std::string path = fmt::format("{}/{}.json", folder_, vm_id);
  const std::string half_made = path + ".new";
  std::ofstream out(half_made, std::ios::trunc);
  out << nlohmann::json{{"tokens", std::move(list)}}.dump(1, ' ', false,
                                                          nlohmann::json::error_handler_t::replace)
      << '\n';
  out.close();
  if (!out || !sync(half_made, O_RDONLY)) return failed("write", half_made);
  if (::rename(half_made.c_str(), path.c_str()) != 0) return failed("write", path);
  if (!sync(folder_, O_RDONLY | O_DIRECTORY)) return failed("sync", folder_);
  return {};
}

Result<std::optional<OffToken>> OffTokens::find(const std::string& vm_id,
                                                const std::string& token) const {
  FARSIDE_ASSIGN(auto tokens, read(vm_id));
  const auto found = std::ranges::find(tokens, token, &OffToken::token);
  if (found == tokens.end()) return std::nullopt;
  return std::move(*found);
}

Status OffTokens::add(const std::string& vm_id, OffToken token) const {
  FARSIDE_ASSIGN(auto tokens, read(vm_id));
  std::erase_if(tokens, [&](const OffToken& each) { return each.token == token.token; });
  tokens.push_back(std::move(token));
  // The first one is that of the newest durable point.
  if (tokens.size() > kTokensMax) tokens.erase(tokens.begin() + 1);
  return write(vm_id, tokens);
}

Status OffTokens::replace_all(const std::string& vm_id, OffToken token) const {
  return write(vm_id, {std::move(token)});
}

Status OffTokens::remove(const std::string& vm_id) const {
  FARSIDE_TRY(check_file_name("VM", vm_id));
  const std::string path = fmt::format("{}/{}.json", folder_, vm_id);
  if (::unlink(path.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return failed("remove", path);
  }
  if (!sync(folder_, O_RDONLY | O_DIRECTORY)) return failed("sync", folder_);
  return {};
}

}  // namespace farside::agent::libvirt
