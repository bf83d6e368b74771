#include "services/agent/host_settings.h"

#include <map>

#include "common/base/file_name.h"
#include "common/base/secret_file.h"
#include "services/agent/platforms/libvirt/networks.h"

namespace farside::agent {
namespace {

using Networks = std::map<std::string, std::string>;

libvirt::Options read_libvirt(Config& config, const std::string& data_dir) {
  libvirt::Options options;
  options.uri = config.text("libvirt.uri", "");
  options.root = config.text("libvirt.root", "");
  if (options.uri.empty() && options.root.empty()) options.uri = "qemu:///system";
  options.own_folder = data_dir;
  options.state_dir = data_dir + "/platform";
  options.scratch_dir = config.text("libvirt.scratch_dir", data_dir + "/scratch");
  options.scratch_reserve_bytes =
      static_cast<std::uint64_t>(config.integer("libvirt.scratch_reserve_mib", 512, 0, 1 << 20))
      << 20U;
  options.boot_folder = config.text("libvirt.boot_folder", "");
  options.guest_start_seconds =
      static_cast<int>(config.integer("libvirt.guest_start_seconds", 90, 0, 3600));
  options.domain_type = config.choice("libvirt.domain_type", "auto", {"auto", "kvm", "qemu"});
  return options;
}

std::string host_of(const std::string& url) {
  const std::size_t begin = url.find("://");
  if (begin == std::string::npos) return {};
  const std::string rest = url.substr(begin + 3);
  return rest.substr(0, rest.find_first_of(":/"));
}

wsman::LoginKind login_kind(const std::string& text) {
  if (text == "basic") return wsman::LoginKind::kBasic;
  if (text == "certificate") return wsman::LoginKind::kCertificate;
  return wsman::LoginKind::kNegotiate;
}

Status read_hyperv(Config& config, const std::string& data_dir, HostSettings& settings) {
  hyperv::Options& options = settings.hyperv;
  hyperv::HostAccess& access = options.access;
  access.target.url = config.required_text("hyperv.url");
  access.target.ca_file = config.text("hyperv.ca_file", "");
  access.target.fingerprint = config.text("hyperv.fingerprint", "");
  access.target.certificate_file = config.text("hyperv.certificate_file", "");
  access.target.key_file = config.text("hyperv.key_file", "");
  access.kind =
      login_kind(config.choice("hyperv.login", "negotiate", {"negotiate", "basic", "certificate"}));
  access.login.mechanism = wsman::mechanism_from(
      config.choice("hyperv.mechanism", "kerberos", {"kerberos", "ntlm", "any"}));
  access.login.user = config.text("hyperv.user", "");
  settings.hyperv_password_file = config.text("hyperv.password_file", "");
  access.record_folder = config.text("hyperv.record_dir", "");

  options.folder = config.required_text("hyperv.folder");
  options.state_dir = data_dir + "/platform";
  smb::ShareOptions& smb = options.smb;
  smb.server = config.text("hyperv.smb.server", host_of(access.target.url));
  smb.port = static_cast<std::uint16_t>(config.integer("hyperv.smb.port", 445, 1, 65'535));
  smb.user = config.text("hyperv.smb.user", access.login.user);
  smb.domain = config.text("hyperv.smb.domain", "");
  settings.smb_password_file =
      config.text("hyperv.smb.password_file", settings.hyperv_password_file);
  smb.encrypt = config.boolean("hyperv.smb.encrypt", true);
  smb.sign = config.boolean("hyperv.smb.sign", true);
  // "DOMAIN\user" is one word for WS-Management, and two for SMB.
  if (const std::size_t at = smb.user.find('\\'); at != std::string::npos && smb.domain.empty()) {
    smb.domain = smb.user.substr(0, at);
    smb.user = smb.user.substr(at + 1);
  }
  for (Config& share : config.tables("hyperv.share")) {
    options.shares.push_back(
        {.folder = share.required_text("folder"), .share = share.required_text("name")});
    FARSIDE_TRY(share.finish());
  }
  const bool needs_user = access.kind != wsman::LoginKind::kCertificate;
  if (needs_user && (access.login.user.empty() || settings.hyperv_password_file.empty())) {
    return fail(ErrorCode::kInvalidArgument, "hyperv.user and hyperv.password_file must be set",
                "name the account on the host that this agent logs in with");
  }
  if (smb.user.empty() || settings.smb_password_file.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "hyperv.smb.user and hyperv.smb.password_file must be set",
                "name the account that may read and write the shares");
  }
  FARSIDE_TRY(hyperv::check(options));
  return {};
}

Result<std::string> read_password(const std::string& path) {
  if (path.empty()) return std::string();
  return read_secret_line(path, "password file");
}

}  // namespace

Result<HostSettings> read_host_settings(Config& config, const std::string& name,
                                        const std::string& data_dir) {
  HostSettings settings;
  settings.is_hyperv = config.choice("platform", "libvirt", {"libvirt", "hyperv"}) == "hyperv";
  settings.storage = config.texts("storage");
  for (const std::string& path : settings.storage) {
    if (is_folder_path(path)) continue;
    return fail(ErrorCode::kInvalidArgument, "storage: '" + path + "' is no place for replicas",
                "write the whole path, without '.', '..' and empty parts");
  }
  Networks networks;
  for (auto& network : config.tables("network")) {
    networks[network.required_text("name")] = network.required_text("connect");
    FARSIDE_TRY(network.finish());
  }
  if (settings.is_hyperv) {
    settings.hyperv.host_name = name;
    settings.hyperv.storage = settings.storage;
    settings.hyperv.networks = networks;
    FARSIDE_TRY(read_hyperv(config, data_dir, settings));
  } else {
    settings.libvirt = read_libvirt(config, data_dir);
    settings.libvirt.host_name = name;
    settings.libvirt.storage = settings.storage;
    settings.libvirt.networks = networks;
    FARSIDE_TRY(libvirt::Networks::from_options(networks));
  }
  return settings;
}

Result<std::unique_ptr<Platform>> open_host(HostSettings settings, const Clock& clock) {
  if (!settings.is_hyperv) return libvirt::open_platform(settings.libvirt, clock);
  if (const std::string& key = settings.hyperv.access.target.key_file; !key.empty()) {
    FARSIDE_TRY(read_secret_file(key, "private key"));  // The HTTP library reads it whatever it is.
  }
  FARSIDE_ASSIGN(settings.hyperv.access.login.password,
                 read_password(settings.hyperv_password_file));
  FARSIDE_ASSIGN(settings.hyperv.smb.password, read_password(settings.smb_password_file));
  return hyperv::open_platform(settings.hyperv, clock);
}

}  // namespace farside::agent
