// What reading and writing a VHDX disk costs us, against `qemu-img convert` doing the same on the
// same files: raw -> VHDX and VHDX -> raw, stable on the disk at the end, the best of a few turns.
// Prints one JSON object a line.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "services/agent/platforms/hyperv/vhdx/chain.h"
#include "services/agent/platforms/hyperv/vhdx/layout.h"
#include "services/agent/platforms/hyperv/vhdx/local_file.h"
#include "services/agent/platforms/hyperv/vhdx/new_image.h"
#include "services/agent/platforms/hyperv/vhdx/writable_image.h"

namespace farside::agent::vhdx {
namespace {

using Mode = LocalFile::Mode;

constexpr std::uint64_t kDiskBytes = 1024 * kMiB;
constexpr std::uint64_t kPart = 4 * kMiB;
constexpr int kTurns = 4;

// Every fourth part of the disk is a hole.
Status make_raw(const std::string& path) {
  FARSIDE_ASSIGN(const auto file, LocalFile::open(path, Mode::kCreate));
  FARSIDE_TRY(file->truncate(kDiskBytes));
  SeededRandom random(1);
  std::string bytes(kPart, '\0');
  for (std::uint64_t at = 0; at < kDiskBytes; at += kPart) {
    if (at / kPart % 4 == 3) continue;
    for (std::size_t i = 0; i < bytes.size(); i += 8) store(bytes, i, random.next());
    FARSIDE_TRY(file->write_at(at, bytes));
  }
  return file->flush();
}

bool is_zeros(std::string_view bytes) {
  return bytes.front() == '\0' && bytes.substr(1) == bytes.substr(0, bytes.size() - 1);
}

Status write_vhdx(const std::string& from, const std::string& to) {
  FARSIDE_ASSIGN(const auto raw, LocalFile::open(from, Mode::kRead));
  SystemRandom random;
  FARSIDE_ASSIGN(auto file, LocalFile::open(to, Mode::kCreate));
  FARSIDE_TRY(create(*file, {.disk_bytes = kDiskBytes, .block_bytes = 8U << 20U}, random));
  FARSIDE_ASSIGN(const auto image, WritableImage::open(std::move(file), HasNoChildren{}, random));
  std::string bytes(kPart, '\0');
  for (std::uint64_t at = 0; at < kDiskBytes; at += kPart) {
    FARSIDE_TRY(raw->read_at(at, bytes));
    if (!is_zeros(bytes)) FARSIDE_TRY(image->write_at(at, bytes));
  }
  return image->close();
}

Status read_vhdx(const std::string& from, const std::string& to) {
  FARSIDE_ASSIGN(auto file, LocalFile::open(from, Mode::kRead));
  FARSIDE_ASSIGN(const auto chain, Chain::open(std::move(file), {}));
  FARSIDE_ASSIGN(const auto raw, LocalFile::open(to, Mode::kCreate));
  FARSIDE_TRY(raw->truncate(kDiskBytes));
  FARSIDE_ASSIGN(const auto extents, chain->allocated());
  std::string bytes(kPart, '\0');
  for (const Extent& extent : extents) {
    if (extent.is_zero) continue;
    for (std::uint64_t done = 0; done < extent.length; done += kPart) {
      const std::uint64_t part = std::min(kPart, extent.length - done);
      FARSIDE_TRY(chain->read_at(extent.offset + done, std::span(bytes).first(part)));
      FARSIDE_TRY(raw->write_at(extent.offset + done, std::string_view(bytes).substr(0, part)));
    }
  }
  return raw->flush();
}

Status qemu(const std::string& from_format, const std::string& from, const std::string& to_format,
            const std::string& to) {
  // Blocks as QEMU would choose them for this size, so that both make the same file.
  const std::string command = "qemu-img convert -f " + from_format + " -O " + to_format + " " +
                              from + " " + to + " && sync " + to;
  if (std::system(command.c_str()) == 0) return {};
  return fail(ErrorCode::kUnavailable, command, "install qemu-utils");
}

// Seconds of the fastest turn; `act` makes the file `made`.
Result<double> best(const std::string& made, const auto& act) {
  const SystemClock clock;
  double seconds = 1e9;
  for (int turn = 0; turn < kTurns; ++turn) {
    std::filesystem::remove(made);
    const auto start = clock.monotonic();
    FARSIDE_TRY(act());
    const auto took = clock.monotonic() - start;
    seconds = std::min(seconds, static_cast<double>(took.count()) / 1e6);
  }
  return seconds;
}

void print(const char* bench, double ours, double qemus) {
  const double mib = static_cast<double>(kDiskBytes / kMiB);
  fmt::print(
      "{{\"bench\":\"{}\",\"mibPerSecond\":{:.0f},\"qemuImgConvertMibPerSecond\":{:.0f},"
      "\"ratio\":{:.2f}}}\n",
      bench, mib / ours, mib / qemus, qemus / ours);
}

Status run(const std::string& folder) {
  const std::string raw = folder + "/disk.raw";
  const std::string vhdx = folder + "/disk.vhdx";
  const std::string out = folder + "/out";
  FARSIDE_TRY(make_raw(raw));
  FARSIDE_ASSIGN(const double qemu_writes,
                 best(vhdx, [&] { return qemu("raw", raw, "vhdx", vhdx); }));
  FARSIDE_ASSIGN(const double we_write, best(vhdx, [&] { return write_vhdx(raw, vhdx); }));
  print("vhdx_write", we_write, qemu_writes);
  FARSIDE_ASSIGN(const double qemu_reads,
                 best(out, [&] { return qemu("vhdx", vhdx, "raw", out); }));
  FARSIDE_ASSIGN(const double we_read, best(out, [&] { return read_vhdx(vhdx, out); }));
  print("vhdx_read", we_read, qemu_reads);
  const std::string same = "cmp " + raw + " " + out;
  if (std::system(same.c_str()) == 0) return {};
  return fail(ErrorCode::kCorrupt, "what was read is not what was written");
}

}  // namespace
}  // namespace farside::agent::vhdx

int main() {
  std::string folder = std::filesystem::temp_directory_path() / "farside-vhdx-bench.XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  const farside::Status done = farside::agent::vhdx::run(folder);
  std::filesystem::remove_all(folder);
  if (!done) fmt::print(stderr, "{}\n", farside::to_text(done.error()));
  return done ? 0 : 1;
}
