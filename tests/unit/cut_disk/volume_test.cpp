// The volume that forgets: what it keeps is what was synced, and nothing else.
#include "tests/support/cut_disk/volume.h"

#include <gmock/gmock.h>

#include <cerrno>
#include <set>

namespace farside::test {
namespace {

using Number = Volume::Number;

class VolumeTest : public testing::Test {
 protected:
  Number make(const std::string& path, const std::string& bytes) {
    Number made = 0;
    EXPECT_EQ(volume_.make(path, S_IFREG | 0600, made), 0);
    EXPECT_EQ(volume_.write(made, bytes, 0), static_cast<int>(bytes.size()));
    return made;
  }

  // "-": no such file.
  std::string read(const std::string& path) const {
    const Number file = volume_.find(path);
    if (file == 0) return "-";
    std::string bytes(100, '?');
    bytes.resize(static_cast<std::size_t>(volume_.read(file, bytes.data(), bytes.size(), 0)));
    return bytes;
  }

  void sync_names() { EXPECT_EQ(volume_.sync_folder(Volume::kRoot), 0); }
  void cut() { volume_.cut(Volume::Cut::kLost, 0); }

  Volume volume_;
};

TEST_F(VolumeTest, KeepsAFileWhoseDataAndNameWereSynced) {
  const Number a = make("/a", "old");
  ASSERT_EQ(volume_.sync(a, "/a"), 0);
  sync_names();
  volume_.write(a, "new", 0);
  const Number nameless = make("/b", "whole");
  ASSERT_EQ(volume_.sync(nameless, "/b"), 0);
  make("/c", "empty");
  sync_names();  // And with it the name of b.
  make("/d", "gone");

  cut();

  EXPECT_EQ(read("/a"), "old");
  EXPECT_EQ(read("/b"), "whole");
  EXPECT_EQ(read("/c"), "");
  EXPECT_EQ(read("/d"), "-");
}

TEST_F(VolumeTest, ARenameHappenedWhollyOrNot) {
  const Number before = make("/file", "old");
  volume_.sync(before, "/file");
  sync_names();
  const Number after = make("/file.new", "new");
  volume_.sync(after, "/file.new");
  ASSERT_EQ(volume_.rename("/file.new", "/file"), 0);
  EXPECT_EQ(read("/file"), "new");

  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Volume copy = volume_;
    copy.cut(Volume::Cut::kTorn, seed);
    std::swap(copy, volume_);
    seen.insert(read("/file") + read("/file.new"));
    std::swap(copy, volume_);
  }

  EXPECT_THAT(seen, testing::UnorderedElementsAre("old-", "oldnew", "new-"));
}

TEST_F(VolumeTest, ANameThatLeftForAnotherFolderTakesItsPastAlong) {
  Number folder = 0;
  ASSERT_EQ(volume_.make("/f", S_IFDIR | 0700, folder), 0);
  const Number a = make("/f/a", "a");
  volume_.sync(a, "/f/a");
  ASSERT_EQ(volume_.rename("/f/a", "/a"), 0);
  sync_names();
  ASSERT_EQ(volume_.sync_folder(folder), 0);

  cut();

  EXPECT_EQ(read("/a"), "a");
  EXPECT_EQ(read("/f/a"), "-");
}

TEST_F(VolumeTest, OfWhatWasNotSyncedAnyPagesMaySurvive) {
  const Number a = make("/a", std::string(4096, 'x') + std::string(4096, 'x'));
  volume_.sync(a, "/a");
  sync_names();
  volume_.write(a, std::string(8192, 'y'), 0);

  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Volume copy = volume_;
    copy.cut(Volume::Cut::kTorn, seed);
    std::string bytes(8192, '?');
    ASSERT_EQ(copy.read(copy.find("/a"), bytes.data(), bytes.size(), 0), 8192);
    seen.insert({bytes.front(), bytes.back()});
  }

  EXPECT_THAT(seen, testing::UnorderedElementsAre("xx", "xy", "yx", "yy"));
}

TEST_F(VolumeTest, FailsFromTheInstantAtWhichItsPowerGoes) {
  const Number a = make("/a", "a");
  volume_.power_off_after(2);

  EXPECT_EQ(volume_.sync(a, "/a"), 0);
  EXPECT_EQ(volume_.sync_folder(Volume::kRoot), -EIO);
  EXPECT_TRUE(volume_.is_off());
  EXPECT_EQ(volume_.write(a, "b", 0), -EIO);

  volume_.go_on();
  EXPECT_EQ(read("/a"), "a");
  cut();
  EXPECT_EQ(read("/a"), "-");
}

TEST_F(VolumeTest, LiesOnDemand) {
  volume_.lie_about(".log");
  const Number log = make("/1.log", "lost");
  const Number other = make("/1.sst", "kept");
  volume_.sync(log, "/1.log");
  volume_.sync(other, "/1.sst");
  sync_names();

  cut();

  EXPECT_EQ(read("/1.log"), "");
  EXPECT_EQ(read("/1.sst"), "kept");
}

}  // namespace
}  // namespace farside::test
