#include "services/agent/platforms/hyperv/vhdx_base.h"

#include <algorithm>
#include <cstring>

#include "common/base/log.h"

namespace farside::agent::hyperv {

Status read_image(vhdx::Image& image, std::uint64_t offset, std::span<char> to) {
  if (offset > image.disk_bytes() || to.size() > image.disk_bytes() - offset) {
    return fail(ErrorCode::kInvalidArgument, "read beyond the end of a base disk");
  }
  std::vector<vhdx::Segment> segments;
  FARSIDE_TRY(image.map(offset, to.size(), segments));
  for (const vhdx::Segment& segment : segments) {
    const std::span<char> part = to.first(segment.length);
    to = to.subspan(segment.length);
    if (segment.source == vhdx::Source::kThisFile) {
      FARSIDE_TRY(image.file().read_at(segment.file_offset, part));
    } else {
      std::ranges::fill(part, '\0');
    }
  }
  return {};
}

VhdxBase::~VhdxBase() {
  if (const Status closed = close(); !closed) {
    log::warn("base_disk_not_closed", {{"file", path_}, {"error", closed.error()}});
  }
}

Result<vhdx::Image*> VhdxBase::to_read() {
  if (writer_ != nullptr) return writer_.get();
  if (reader_ == nullptr) {
    FARSIDE_ASSIGN(auto file, shares_.open(path_, smb::Access::kRead));
    FARSIDE_ASSIGN(reader_, vhdx::Image::open(std::move(file)));
  }
  return reader_.get();
}

Result<vhdx::WritableImage*> VhdxBase::to_write() {
  if (writer_ == nullptr) {
    reader_.reset();
    FARSIDE_ASSIGN(auto file, shares_.open(path_, smb::Access::kReadWrite));
    FARSIDE_ASSIGN(writer_, vhdx::WritableImage::open(std::move(file), {}, random_));
  }
  return writer_.get();
}

Status VhdxBase::close() {
  reader_.reset();
  if (writer_ == nullptr) return {};
  const Status closed = writer_->close();
  writer_.reset();
  return closed;
}

Status VhdxBase::read_at(std::uint64_t offset, std::span<char> to) {
  const std::lock_guard lock(mutex_);
  FARSIDE_ASSIGN(auto* image, to_read());
  const Status read = read_image(*image, offset, to);
  if (!read) reader_.reset();  // The file may be away and come back another.
  return read;
}

Status VhdxBase::write_at(std::uint64_t offset, std::string_view bytes) {
  const std::lock_guard lock(mutex_);
  FARSIDE_ASSIGN(auto* image, to_write());
  const Status written = image->write_at(offset, bytes);
  if (!written) writer_.reset();  // What it holds of the file may be wrong now.
  return written;
}

Status VhdxBase::punch(std::uint64_t offset, std::uint64_t length) {
  const std::lock_guard lock(mutex_);
  FARSIDE_ASSIGN(auto* image, to_write());
  const Status zeroed = image->zero(offset, length);
  if (!zeroed) writer_.reset();
  return zeroed;
}

Status VhdxBase::sync() {
  const std::lock_guard lock(mutex_);
  // A writer that was given up after an error took what was not flushed with it.
  if (writer_ == nullptr) {
    return fail(ErrorCode::kIo, "base disk '" + path_ + "' was closed by an error before",
                "what was written since is sent again");
  }
  const Status flushed = writer_->flush();
  if (!flushed) writer_.reset();
  return flushed;
}

std::uint64_t VhdxBase::used_bytes() {
  const std::lock_guard lock(mutex_);
  const auto image = to_read();
  return image ? (*image)->file().size().value_or(0) : 0;
}

Result<std::uint64_t> VhdxBase::disk_bytes() {
  const std::lock_guard lock(mutex_);
  FARSIDE_ASSIGN(const auto* image, to_read());
  return image->disk_bytes();
}

Status VhdxBase::release() {
  const std::lock_guard lock(mutex_);
  return close();
}

}  // namespace farside::agent::hyperv
