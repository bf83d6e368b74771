// The simulated host against a client that is not ours: what both sides of the wire agree on
// because one hand wrote them would be found here.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "tests/integration/wsman/hvsim_process.h"

namespace farside::hvsim {
namespace {

// NTLM takes MD4, which OpenSSL 3 has put aside.
constexpr const char* kLegacyOpenssl =
    "openssl_conf = init\n[init]\nproviders = providers\n"
    "[providers]\ndefault = on\nlegacy = on\n[on]\nactivate = 1\n";

struct Outcome {
  int status = -1;
  std::string output;
};

Outcome run(const std::string& command) {
  Outcome outcome;
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return outcome;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) {
    outcome.output += static_cast<char>(c);
  }
  outcome.status = ::pclose(pipe);
  return outcome;
}

TEST(SecondClientTest, PywinrmListsVmsOverSealedMessages) {
  if (run("/usr/bin/python3 -c 'import winrm, requests_ntlm'").status != 0) {
    GTEST_SKIP() << "python3-winrm is not installed";
  }
  const HvsimProcess host({"--vms", "5"});
  const std::string config = host.folder() / "openssl.cnf";
  std::ofstream(config) << kLegacyOpenssl;

  const Outcome outcome =
      run("OPENSSL_CONF=" + config + " timeout 60 /usr/bin/python3 -W ignore " + PYWINRM_SMOKE +
          " " + host.http_url() + " 'HVSIM\\" + kUser + "' '" + kPassword + "'");

  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_TRUE(outcome.output.ends_with("5\n")) << outcome.output;
}

}  // namespace
}  // namespace farside::hvsim
