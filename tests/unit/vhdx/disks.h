// Small VHDX files in memory, for tests.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "services/agent/platforms/hyperv/vhdx/chain.h"
#include "services/agent/platforms/hyperv/vhdx/layout.h"
#include "services/agent/platforms/hyperv/vhdx/new_image.h"
#include "services/agent/platforms/hyperv/vhdx/writable_image.h"
#include "tests/support/memory_file.h"

namespace farside::agent::vhdx::test {

using farside::test::Bytes;
using farside::test::open;

// Files by name, as on a share; parents are found by their relative path.
struct Share {
  SeededRandom random{7};
  std::map<std::string, Bytes> files;

  ParentOpener opener() {
    return [this](const ParentLocator& locator) -> Result<std::unique_ptr<hyperv::ByteFile>> {
      const auto found = files.find(locator.relative_path);
      if (found == files.end()) return fail(ErrorCode::kNotFound, "no " + locator.relative_path);
      return open(found->second);
    };
  }
  void create(const std::string& name, const NewImage& image) {
    const Status made = vhdx::create(*open(files[name]), image, random);
    ASSERT_TRUE(made) << to_text(made.error());
  }
  void create_child(const std::string& name, const std::string& parent,
                    std::uint32_t block_bytes = kBlockBytesMin) {
    const auto image = Image::open(open(files[parent]));
    ASSERT_TRUE(image) << to_text(image.error());
    NewImage child = child_of(**image, parent, "\\\\?\\C:\\disks\\" + parent);
    child.block_bytes = block_bytes;
    create(name, child);
  }
  std::unique_ptr<WritableImage> write(const std::string& name) {
    auto image = WritableImage::open(open(files[name]), HasNoChildren{}, random);
    EXPECT_TRUE(image) << to_text(image.error());
    return image ? std::move(*image) : nullptr;
  }
  std::unique_ptr<Chain> chain(const std::string& name) {
    auto opened = Chain::open(open(files[name]), opener());
    EXPECT_TRUE(opened) << to_text(opened.error());
    return opened ? std::move(*opened) : nullptr;
  }
  std::string contents(const std::string& name) {
    const auto disk = chain(name);
    if (disk == nullptr) return {};
    std::string out(disk->disk_bytes(), '?');
    const Status read = disk->read_at(0, out);
    EXPECT_TRUE(read) << to_text(read.error());
    return out;
  }
};

inline std::string pattern(SeededRandom& random, std::size_t bytes) {
  std::string out(bytes, '\0');
  for (std::size_t at = 0; at < bytes; at += 8) store(out, at, random.next());
  return out;
}

}  // namespace farside::agent::vhdx::test
