// A simulated host that runs for a test: its own process, folder, certificate, users and ports.
//
// Owns: the process, which ends with it.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/wsman/client.h"
#include "common/wsman/login_channel.h"
#include "tests/support/temp_folder.h"

namespace farside::hvsim {

inline constexpr const char* kUser = "operator";
inline constexpr const char* kPassword = "correct horse";

class HvsimProcess final {
 public:
  // `more`: further options of the program; `environment`: added to our own.
  explicit HvsimProcess(const std::vector<std::string>& more = {},
                        const std::map<std::string, std::string>& environment = {});
  ~HvsimProcess();
  HvsimProcess(const HvsimProcess&) = delete;
  HvsimProcess& operator=(const HvsimProcess&) = delete;

  int http_port() const { return http_port_; }
  int https_port() const { return https_port_; }
  std::string http_url() const;
  std::string https_url() const;
  std::string ca_file() const { return folder_ / "host.pem"; }
  const test::TempFolder& folder() const { return folder_; }
  std::string fingerprint() const;  // Of its certificate, as openssl prints it.
  wsman::HttpTarget http() const;
  wsman::HttpTarget https() const;

  // At once, as if its host had lost its power.
  void kill();

  // To its control socket; see tests/support/hvsim/control.h.
  void order(const std::string& json) const;

 private:
  test::TempFolder folder_;
  pid_t pid_ = -1;
  int input_ = -1;  // It ends when this does.
  int http_port_ = 0;
  int https_port_ = 0;
};

}  // namespace farside::hvsim
