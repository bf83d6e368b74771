#include "services/agent/platforms/libvirt/kvm_probe.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "services/agent/platforms/libvirt/program.h"

namespace farside::agent::libvirt {
namespace {

// mov dx, 0xf4; mov al, 1; out dx, al; hlt; jmp -3.  QEMU's debug exit device turns the 1 into its
// exit code 2 * 1 + 1.
constexpr std::array<unsigned char, 9> kBootCode = {0xBA, 0xF4, 0x00, 0xB0, 0x01,
                                                    0xEE, 0xF4, 0xEB, 0xFD};
constexpr int kExitCode = 3;
constexpr std::size_t kDiskBytes = 1U << 20U;  // The firmware ignores disks much smaller.

}  // namespace

bool kvm_boots(const std::string& emulator) {
  if (::access("/dev/kvm", R_OK | W_OK) != 0) return false;
  std::error_code error;
  std::string path = std::filesystem::temp_directory_path(error).string() + "/farside-kvm.XXXXXX";
  const int fd = ::mkstemp(path.data());
  if (fd < 0) return false;
  ::close(fd);
  {
    std::string disk(kDiskBytes, '\0');
    for (std::size_t i = 0; i < kBootCode.size(); ++i) disk[i] = static_cast<char>(kBootCode[i]);
    disk[510] = '\x55';
    disk[511] = '\xAA';
    std::ofstream(path, std::ios::binary) << disk;
  }
  const auto outcome = run_program(
      {emulator, "-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "32", "-nodefaults",
       "-display", "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
       "-blockdev", "driver=raw,node-name=d,read-only=on,file.driver=file,file.filename=" + path,
       "-device", "virtio-blk-pci,drive=d,bootindex=0"},
      std::chrono::seconds(10));
  std::filesystem::remove(path, error);
  return outcome.has_value() && outcome->exit_code == kExitCode;
}

}  // namespace farside::agent::libvirt
