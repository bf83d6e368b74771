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

bool has_pywinrm() {
  return run("/usr/bin/python3 -c 'import winrm, requests_ntlm'").status == 0;
}

Outcome ask_with_pywinrm(const HvsimProcess& host) {
  const std::string config = host.folder() / "openssl.cnf";
  std::ofstream(config) << kLegacyOpenssl;
  return run("OPENSSL_CONF=" + config + " timeout 60 /usr/bin/python3 -W ignore " + PYWINRM_SMOKE +
             " " + host.http_url() + " 'HVSIM\\" + kUser + "' '" + kPassword + "'");
}

TEST(SecondClientTest, PywinrmListsVmsOverSealedMessages) {
  if (!has_pywinrm()) GTEST_SKIP() << "python3-winrm is not installed";
  const HvsimProcess host({"--vms", "5"});

  const Outcome outcome = ask_with_pywinrm(host);

  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_TRUE(outcome.output.ends_with("\n5\n")) << outcome.output;
}

// What our client calls the binding is what others do.
TEST(SecondClientTest, PywinrmBindsItsLoginAsWeDo) {
  if (!has_pywinrm()) GTEST_SKIP() << "python3-winrm is not installed";
  const HvsimProcess strict({"--bound-to", "own"});
  const HvsimProcess between({"--bound-to", strict.ca_file()});
  const auto log_in = [](const HvsimProcess& host, const std::string& binds) {
    const std::string config = host.folder() / "openssl.cnf";
    std::ofstream(config) << kLegacyOpenssl;
    return run("OPENSSL_CONF=" + config + " timeout 60 /usr/bin/python3 -W ignore " +
               PYWINRM_BOUND + " " + host.https_url() + " " + host.ca_file() + " 'HVSIM\\" + kUser +
               "' '" + kPassword + "' " + binds);
  };

  EXPECT_EQ(log_in(strict, "bound").output, "known\n");
  EXPECT_EQ(log_in(between, "bound").output, "refused\n");
  EXPECT_EQ(log_in(between, "unbound").output, "known\n") << "and that is why";
}

TEST(SecondClientTest, PywinrmSeesAVmThatReallyRuns) {
  if (!has_pywinrm()) GTEST_SKIP() << "python3-winrm is not installed";
  const test::TempFolder folder;
  std::ofstream(folder / "vms.json")
      << R"([{"guid":"5A1B0000-0000-4000-8000-00000000DEAF","name":"deaf","boot":"nothing",)"
      << R"("running":true,"disks":[{"path":"C:\\deaf.vhdx","mib":8}]}])";
  const HvsimProcess host({"--root", folder / "host", "--vms", folder / "vms.json"});

  const Outcome outcome = ask_with_pywinrm(host);

  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_TRUE(outcome.output.ends_with("states 2\n1\n")) << outcome.output;
}

}  // namespace
}  // namespace farside::hvsim
