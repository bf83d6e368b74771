// The checker must accept every state an honest disk can be in, and refuse every other.
#include "tests/support/guest/checker.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/support/guest/record.h"

namespace farside::guest {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t kDiskBytes = 8U << 20U;

class MemoryImage final : public Image {
 public:
  std::uint64_t bytes() const override { return content_.size(); }
  Status read(std::uint64_t offset, std::span<std::byte> to) override {
    if (offset + to.size() > content_.size()) return fail(ErrorCode::kInvalidArgument, "outside");
    std::memcpy(to.data(), content_.data() + offset, to.size());
    return {};
  }
  std::byte* at(std::uint64_t offset) { return content_.data() + offset; }
  void put(std::uint64_t offset, const Block& block) {
    std::memcpy(at(offset), block.data(), block.size());
  }

 private:
  std::vector<std::byte> content_ = std::vector<std::byte>(kDiskBytes);
};

// Two disks as the witness leaves them after record `newest`.
class Disks {
 public:
  explicit Disks(std::uint64_t newest, std::uint32_t slots = 8) {
    header_ = Header{.run = 77, .disks = 2, .slots = slots, .fill_mib = 1, .zero_mib = 1};
    for (std::uint32_t i = 0; i < 2; ++i) {
      auto image = std::make_unique<MemoryImage>();
      Block block;
      header_.disk = i;
      encode(header_, block);
      image->put(0, block);
      for (std::uint64_t b = 0; b < 256; ++b) {
        encode_fill(header_.run, i, b, block);
        image->put(header_.fill_offset() + b * kBlockBytes, block);
      }
      memory_.push_back(image.get());
      images_.push_back(std::move(image));
    }
    history_.push_back(Block{});
    while (history_.size() <= newest) write(next());
  }

  // The record after the newest one.
  Block next(std::uint64_t boot = 5) const {
    const std::uint64_t seq = history_.size();
    Block block;
    encode(Record{.run = header_.run,
                  .seq = seq,
                  .boot = boot,
                  .disk = disk_of(header_, seq),
                  .previous = seq == 1 ? 0 : digest_of(history_.back())},
           block);
    return block;
  }

  void write(const Block& block) {
    const std::uint64_t seq = history_.size();
    memory_[disk_of(header_, seq)]->put(offset_of(header_, seq), block);
    history_.push_back(block);
  }

  MemoryImage& disk_of_record(std::uint64_t seq) { return *memory_[disk_of(header_, seq)]; }
  MemoryImage& disk(std::size_t index) { return *memory_[index]; }
  std::uint64_t offset(std::uint64_t seq) const { return offset_of(header_, seq); }
  const Header& header() const { return header_; }
  const Block& record(std::uint64_t seq) const { return history_[seq]; }
  std::vector<std::unique_ptr<Image>>& images() { return images_; }

  Verdict verdict(const CheckOptions& options = {}) {
    auto verdict = check(images_, options);
    EXPECT_TRUE(verdict.has_value());
    return verdict.value_or(Verdict{});
  }

 private:
  Header header_;
  std::vector<std::unique_ptr<Image>> images_;
  std::vector<MemoryImage*> memory_;
  std::vector<Block> history_;
};

TEST(CheckerTest, AcceptsEveryPrefixWhileTheWindowFillsAndWraps) {
  for (std::uint64_t newest = 0; newest < 60; ++newest) {
    Disks disks(newest);

    const Verdict verdict = disks.verdict({.acknowledged = newest});

    EXPECT_TRUE(verdict.ok) << to_json(verdict);
    EXPECT_EQ(verdict.newest, newest);
  }
}

TEST(CheckerTest, RefusesARecordThatWasAcknowledgedAndIsNotThere) {
  Disks disks(40);

  EXPECT_TRUE(disks.verdict({.acknowledged = 40}).ok);
  EXPECT_FALSE(disks.verdict({.acknowledged = 41}).ok);
}

TEST(CheckerTest, RefusesAHole) {
  Disks disks(40);
  disks.disk_of_record(33).put(disks.offset(33), Block{});

  const Verdict verdict = disks.verdict();

  EXPECT_FALSE(verdict.ok);
  EXPECT_THAT(verdict.missing, ElementsAre(33));
}

TEST(CheckerTest, RefusesAnOldVersionInTheMiddle) {
  Disks disks(40);
  disks.disk_of_record(33).put(disks.offset(33), disks.record(33 - 16));

  const Verdict verdict = disks.verdict();

  EXPECT_FALSE(verdict.ok);
  EXPECT_THAT(verdict.missing, ElementsAre(33));
}

TEST(CheckerTest, RefusesALaterRecordThatArrivedBeforeAnEarlierOne) {
  Disks disks(40);
  const Block skipped = disks.next();
  Disks longer(42);
  disks.disk_of_record(42).put(disks.offset(42), longer.record(42));

  const Verdict verdict = disks.verdict();

  EXPECT_FALSE(verdict.ok);
  EXPECT_THAT(verdict.missing, ElementsAre(41));
  disks.disk_of_record(41).put(disks.offset(41), skipped);
  EXPECT_TRUE(disks.verdict().ok);
}

TEST(CheckerTest, RefusesOneDiskOlderThanTheOther) {
  Disks now(40);
  Disks before(30);
  std::swap(now.images()[1], before.images()[1]);

  const Verdict verdict = now.verdict();

  EXPECT_FALSE(verdict.ok);
  EXPECT_THAT(verdict.missing, ElementsAre(31, 33, 35, 37, 39));
  EXPECT_THAT(verdict.per_disk, ElementsAre(40, 29));
}

TEST(CheckerTest, RefusesSwappedDisks) {
  Disks disks(40);
  std::swap(disks.images()[0], disks.images()[1]);

  EXPECT_FALSE(disks.verdict().ok);
}

TEST(CheckerTest, AcceptsTheRecordInFlightTornOverItsOldVersionOrZeros) {
  for (const std::uint64_t newest : {0U, 3U, 40U}) {
    for (std::size_t cut = kSectorBytes; cut < kBlockBytes; cut += kSectorBytes) {
      Disks disks(newest);
      const Block next = disks.next(/*boot=*/6);
      std::memcpy(disks.disk_of_record(newest + 1).at(disks.offset(newest + 1)), next.data(), cut);

      const Verdict verdict = disks.verdict({.acknowledged = newest});

      EXPECT_TRUE(verdict.ok) << to_json(verdict);
      EXPECT_TRUE(verdict.partial);
      EXPECT_EQ(verdict.newest, newest);
    }
  }
}

TEST(CheckerTest, RefusesATornRecordThatIsNotTheOneInFlight) {
  Disks disks(40);
  std::memset(disks.disk_of_record(38).at(disks.offset(38)), 0, kSectorBytes);

  const Verdict verdict = disks.verdict();

  EXPECT_FALSE(verdict.ok);
  EXPECT_THAT(verdict.torn, ElementsAre(38));
}

TEST(CheckerTest, RefusesAForeignSectorInTheSlotInFlight) {
  Disks disks(40);
  std::memcpy(disks.disk_of_record(41).at(disks.offset(41)), disks.record(40).data(), kSectorBytes);

  EXPECT_FALSE(disks.verdict().ok);
}

TEST(CheckerTest, RefusesOneFlippedBitAnywhereInTheWindow) {
  for (std::uint64_t seq = 25; seq <= 40; ++seq) {
    Disks disks(40);
    *disks.disk_of_record(seq).at(disks.offset(seq) + 100 * seq) ^= std::byte{4};

    EXPECT_FALSE(disks.verdict().ok) << seq;
  }
}

TEST(CheckerTest, RefusesAMixtureOfTwoHistories) {
  Disks disks(40);
  disks.write(disks.next(/*boot=*/6));
  disks.write(disks.next(/*boot=*/6));
  Disks other(40);
  other.write(other.next(/*boot=*/7));
  ASSERT_TRUE(disks.verdict().ok);
  disks.disk_of_record(41).put(disks.offset(41), other.record(41));

  const Verdict verdict = disks.verdict();

  EXPECT_FALSE(verdict.ok);
  ASSERT_FALSE(verdict.problems.empty());
  EXPECT_THAT(verdict.problems.front(), HasSubstr("does not follow"));
}

TEST(CheckerTest, RefusesFillThatDiffers) {
  Disks random(40);
  *random.disk(1).at(random.header().fill_offset() + 70'000) ^= std::byte{1};
  Disks zero(40);
  *zero.disk(0).at(zero.header().zero_offset() + 70'000) = std::byte{1};

  EXPECT_FALSE(random.verdict().ok);
  EXPECT_TRUE(random.verdict({.fill = false}).ok);
  EXPECT_FALSE(zero.verdict().ok);
}

TEST(CheckerTest, RefusesBlankDisksUnlessTold) {
  std::vector<std::unique_ptr<Image>> images;
  images.push_back(std::make_unique<MemoryImage>());

  EXPECT_FALSE(check(images, {})->ok);
  EXPECT_TRUE(check(images, {.blank_is_ok = true})->ok);
  EXPECT_FALSE(check(images, {.acknowledged = 1, .blank_is_ok = true})->ok);
}

TEST(CheckerTest, RefusesAMissingDisk) {
  Disks disks(40);
  disks.images().pop_back();

  EXPECT_FALSE(disks.verdict().ok);
}

// The witness itself, on files.
class WitnessTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "witness.XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    for (const char* name : {"a.img", "b.img", "c.img"}) {
      paths_.push_back((folder_ / name).string());
      std::ofstream(paths_.back()).close();
      std::filesystem::resize_file(paths_.back(), kDiskBytes);
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  pid_t start(const std::vector<std::string>& options) {
    std::vector<std::string> words = {FARSIDE_WITNESS, "--run_id=test", "--slots=64",
                                      "--fill_mib=1"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), paths_.begin(), paths_.end());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid == 0) {
      std::freopen((folder_ / "log").c_str(), "a", stdout);
      ::execv(FARSIDE_WITNESS, arguments.data());
      ::_exit(127);
    }
    return pid;
  }

  static int wait_for(pid_t pid) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    return status;
  }

  Verdict verdict(const CheckOptions& options) {
    std::vector<std::unique_ptr<Image>> images;
    for (const std::string& path : paths_) {
      auto image = open_image(path);
      EXPECT_TRUE(image.has_value());
      images.push_back(std::move(*image));
    }
    return check(images, options).value_or(Verdict{});
  }

  std::uint64_t last_said(const std::string& what) {
    std::ifstream log(folder_ / "log");
    std::uint64_t seq = 0;
    const std::string prefix = "witness: " + what + " seq=";
    for (std::string line; std::getline(log, line);) {
      if (line.starts_with(prefix)) seq = std::stoull(line.substr(prefix.size()));
    }
    return seq;
  }

  std::filesystem::path folder_;
  std::vector<std::string> paths_;
};

TEST_F(WitnessTest, ContinuesItsHistoryAfterARestart) {
  ASSERT_EQ(wait_for(start({"--pace_ms=0", "--count=500"})), 0);
  ASSERT_EQ(last_said("final"), 500U);
  ASSERT_EQ(wait_for(start({"--pace_ms=0", "--count=100"})), 0);

  const Verdict found = verdict({.acknowledged = 600});

  EXPECT_EQ(last_said("resumed"), 500U);
  EXPECT_TRUE(found.ok) << to_json(found);
  EXPECT_EQ(found.newest, 600U);
}

TEST_F(WitnessTest, LosesNothingItAcknowledgedWhenItIsKilled) {
  const pid_t pid = start({"--pace_ms=0", "--report_ms=1"});
  while (last_said("acknowledged") < 50) std::this_thread::yield();
  ::kill(pid, SIGKILL);
  wait_for(pid);

  const Verdict found = verdict({.acknowledged = last_said("acknowledged")});

  EXPECT_TRUE(found.ok) << to_json(found);
}

TEST_F(WitnessTest, StopsCleanlyOnSigterm) {
  const pid_t pid = start({"--pace_ms=1", "--report_ms=1"});
  while (last_said("acknowledged") < 10) std::this_thread::yield();
  ::kill(pid, SIGTERM);

  EXPECT_EQ(wait_for(pid), 0);
  const Verdict found = verdict({.acknowledged = last_said("final")});
  EXPECT_TRUE(found.ok) << to_json(found);
  EXPECT_EQ(found.newest, last_said("final"));
}

TEST_F(WitnessTest, RefusesDisksOfAnotherRun) {
  ASSERT_EQ(wait_for(start({"--pace_ms=0", "--count=5"})), 0);

  EXPECT_NE(wait_for(start({"--run_id=other", "--count=5"})), 0);
}

TEST_F(WitnessTest, CheckerReadsQcow2Images) {
  ASSERT_EQ(wait_for(start({"--pace_ms=0", "--count=100"})), 0);
  for (std::string& path : paths_) {
    const std::string to = path + ".qcow2";
    const std::string command = "qemu-img convert -f raw -O qcow2 '" + path + "' '" + to + "'";
    ASSERT_EQ(std::system(command.c_str()), 0);
    path = to;
  }

  const Verdict found = verdict({.acknowledged = 100});

  EXPECT_TRUE(found.ok) << to_json(found);
}

}  // namespace
}  // namespace farside::guest
