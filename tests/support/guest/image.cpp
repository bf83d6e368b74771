#include "tests/support/guest/image.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <libnbd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace farside::guest {
namespace {

Status check_range(const std::string& name, std::uint64_t bytes, std::uint64_t offset,
                   std::size_t length) {
  if (offset <= bytes && length <= bytes - offset) return {};
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("{}: bytes {}+{} lie outside its {} bytes", name, offset, length, bytes));
}

class RawImage final : public Image {
 public:
  RawImage(std::string path, int fd, std::uint64_t bytes)
      : path_(std::move(path)), fd_(fd), bytes_(bytes) {}
  RawImage(const RawImage&) = delete;
  RawImage& operator=(const RawImage&) = delete;
  ~RawImage() override { ::close(fd_); }

  std::uint64_t bytes() const override { return bytes_; }

  Status read(std::uint64_t offset, std::span<std::byte> to) override {
    FARSIDE_TRY(check_range(path_, bytes_, offset, to.size()));
    for (std::size_t at = 0; at < to.size();) {
      const ssize_t got =
          ::pread(fd_, to.data() + at, to.size() - at, static_cast<off_t>(offset + at));
      if (got <= 0) {
        return fail(ErrorCode::kIo, fmt::format("read {}: {}", path_, std::strerror(errno)));
      }
      at += static_cast<std::size_t>(got);
    }
    return {};
  }

 private:
  std::string path_;
  int fd_;
  std::uint64_t bytes_;
};

struct CloseNbd {
  void operator()(nbd_handle* handle) const { nbd_close(handle); }
};
using NbdHandle = std::unique_ptr<nbd_handle, CloseNbd>;

class NbdImage final : public Image {
 public:
  NbdImage(std::string name, NbdHandle handle, std::uint64_t bytes)
      : name_(std::move(name)), handle_(std::move(handle)), bytes_(bytes) {}

  std::uint64_t bytes() const override { return bytes_; }

  Status read(std::uint64_t offset, std::span<std::byte> to) override {
    FARSIDE_TRY(check_range(name_, bytes_, offset, to.size()));
    constexpr std::size_t kRequestBytes = 4U << 20U;
    for (std::size_t at = 0; at < to.size(); at += kRequestBytes) {
      const std::size_t length = std::min(kRequestBytes, to.size() - at);
      if (nbd_pread(handle_.get(), to.data() + at, length, offset + at, 0) != 0) {
        return fail(ErrorCode::kIo, fmt::format("read {}: {}", name_, nbd_get_error()));
      }
    }
    return {};
  }

 private:
  std::string name_;
  NbdHandle handle_;
  std::uint64_t bytes_;
};

Result<std::unique_ptr<Image>> open_nbd(const std::string& source, bool is_qcow2) {
  NbdHandle handle(nbd_create());
  if (!handle) return fail(ErrorCode::kIo, "no NBD handle");
  int status = 0;
  if (is_qcow2) {
    // libnbd passes qemu-nbd a listening socket and ends it when the handle is closed.
    std::string program = "qemu-nbd";
    std::string read_only = "--read-only";
    std::string format = "--format=qcow2";
    std::string path = source;
    char* arguments[] = {program.data(), read_only.data(), format.data(), path.data(), nullptr};
    status = nbd_connect_systemd_socket_activation(handle.get(), arguments);
  } else {
    status = nbd_connect_uri(handle.get(), source.c_str());
  }
  if (status != 0) {
    return fail(ErrorCode::kUnavailable, fmt::format("open {}: {}", source, nbd_get_error()),
                is_qcow2 ? "is the image in use by a virtual machine, or qemu-nbd not installed?"
                         : "is the NBD server running?");
  }
  const std::int64_t bytes = nbd_get_size(handle.get());
  if (bytes < 0) return fail(ErrorCode::kIo, fmt::format("open {}: {}", source, nbd_get_error()));
  return std::make_unique<NbdImage>(source, std::move(handle), static_cast<std::uint64_t>(bytes));
}

}  // namespace

Result<std::unique_ptr<Image>> open_image(const std::string& source) {
  if (source.starts_with("nbd:") || source.starts_with("nbd+unix:")) {
    return open_nbd(source, /*is_qcow2=*/false);
  }
  const int fd = ::open(source.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("open {}: {}", source, std::strerror(errno)));
  }
  constexpr std::string_view kQcow2Magic = "QFI\xfb";
  char magic[4] = {};
  if (::pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
      std::string_view(magic, sizeof(magic)) == kQcow2Magic) {
    ::close(fd);
    return open_nbd(source, /*is_qcow2=*/true);
  }
  const off_t end = ::lseek(fd, 0, SEEK_END);
  return std::make_unique<RawImage>(source, fd, end < 0 ? 0 : static_cast<std::uint64_t>(end));
}

}  // namespace farside::guest
