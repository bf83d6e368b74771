// A simulated host whose machines run, with a client that drives it, for one test.
//
// Owns: the host's folder and its process, which may be ended and started again.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/wsman/disk_changes.h"
#include "common/wsman/job.h"
#include "tests/integration/wsman/hvsim_process.h"
#include "tests/support/guest/checker.h"

namespace farside::hvsim {

inline constexpr const char* kWitness = "5A1B0000-0000-4000-8000-00000000AAAA";
inline constexpr const char* kDeaf = "5A1B0000-0000-4000-8000-00000000DEAF";

class RealHostWorld final {
 public:
  RealHostWorld();

  // Errors: those of the client.
  wsman::Client& client() { return *client_; }
  HvsimProcess& process() { return *process_; }
  void kill_and_start_again();  // As by a power cut of the host.
  void stop_and_start_again();  // As by a shutdown of the host.
  void stop() { process_.reset(); }

  static wsman::Reference vm(const std::string& guid);
  Result<wsman::CallOutcome> call(const wsman::Reference& object, const std::string& method,
                                  const wsman::Parameters& parameters);
  Status request_state(const std::string& guid, std::uint16_t state);
  std::uint64_t state(const std::string& guid);

  // Of the witness.
  std::uint64_t acknowledged(const std::string& guid = kWitness) const;
  std::uint64_t write_more(std::uint64_t records);  // 0: it does not, in a long time.
  std::string serial(const std::string& guid) const;

  // Settings of a recovery checkpoint; the files it froze; what it becomes.
  Result<wsman::Instance> checkpoint(const std::string& guid, std::uint8_t consistency = 2);
  std::vector<std::string> frozen(const wsman::Instance& checkpoint);
  Result<wsman::Instance> convert(const wsman::Instance& checkpoint);
  std::vector<wsman::Instance> reference_points(const std::string& guid);
  Result<std::vector<wsman::ChangedRange>> changes(const std::string& path,
                                                   const std::string& since);

  std::string file_of(const std::string& windows_path) const;
  // What a copy of the VHDX file holds, as a raw image; its path.
  std::string raw_copy(const std::string& windows_path, const std::string& name);
  // Whether raw images hold a prefix of the witness's history up to at least a number.
  guest::Verdict check(const std::vector<std::string>& raw, std::uint64_t acknowledged);
  const test::TempFolder& folder() const { return folder_; }

  static bool wait_until(const std::function<bool()>& is_so);

 private:
  void start();

  test::TempFolder folder_;
  std::unique_ptr<HvsimProcess> process_;
  std::unique_ptr<wsman::Client> client_;
  SystemRandom random_;
  SystemClock clock_;
};

}  // namespace farside::hvsim
