// What happens when the server or farside-smb goes away in the middle of something.
#include <csignal>

#include "tests/integration/smb/samba_fixture.h"

namespace farside::agent::smb {
namespace {

using LossTest = SambaFixture;

constexpr std::size_t kPiece = 1U << 20U;

TEST_F(LossTest, ReadsGoOnAfterTheProcessWasKilledInTheirMiddle) {
  const std::string bytes = pattern(64U << 20U);
  put("vms/f", bytes);
  Share share(options());
  const auto file = share.open("f", Access::kRead);
  ASSERT_TRUE(file);
  const pid_t first = share.process().value_or(0);
  std::string back(bytes.size(), '\0');
  int done = 0;

  for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
    const Status begun =
        share.read_async(*file, at, kPiece, back.data() + at, [&](const Status& status) {
          EXPECT_TRUE(status) << to_text(status.error());
          done += 1;
          if (done == 10) ::kill(first, SIGKILL);
        });
    ASSERT_TRUE(begun);
  }
  while (share.under_way() > 0) share.poll(10'000);

  EXPECT_EQ(done, 64);
  EXPECT_EQ(back, bytes);
  EXPECT_NE(share.process().value_or(0), first);
}

TEST_F(LossTest, ATransferResumesWhenTheServerIsBack) {
  const std::string bytes = pattern(32U << 20U);
  put("vms/f", bytes);
  Share share(options());
  const auto file = share.open("f", Access::kRead);
  ASSERT_TRUE(file);
  std::string back(bytes.size(), '\0');
  std::size_t at = 0;
  std::string piece(kPiece, '\0');
  int failures = 0;

  while (at < bytes.size()) {
    if (at == 10 * kPiece && failures == 0) server_->kill();
    const Status read = share.read(*file, at, piece);
    if (read) {
      back.replace(at, kPiece, piece);
      at += kPiece;
      continue;
    }
    EXPECT_EQ(read.error().code, ErrorCode::kUnavailable) << to_text(read.error());
    ASSERT_LT(++failures, 5);
    // The second failure is that of a whole connect.
    if (failures == 2) {
      ASSERT_TRUE(server_->restart());
    }
  }

  EXPECT_GE(failures, 2);
  EXPECT_EQ(back, bytes);
}

TEST_F(LossTest, AServerThatIsBackAtOnceIsNotEvenNoticed) {
  put("vms/f", "content");
  Share share(options());
  const auto file = share.open("f", Access::kRead);
  ASSERT_TRUE(file);
  ASSERT_TRUE(server_->restart());

  std::string bytes(7, '?');
  const Status read = share.read(*file, 0, bytes);

  EXPECT_TRUE(read) << to_text(read.error());
  EXPECT_EQ(bytes, "content");
}

TEST_F(LossTest, WritesWhoseOutcomeIsUnknownAreRepeated) {
  Share share(options());
  const auto file = share.open("f", Access::kCreateNew);
  ASSERT_TRUE(file);
  const std::string bytes = pattern(16U << 20U);
  ASSERT_TRUE(share.write(*file, 0, std::string_view(bytes).substr(0, 8U << 20U)));
  ::kill(share.process().value_or(0), SIGKILL);

  const Status written = share.write(*file, 8U << 20U, std::string_view(bytes).substr(8U << 20U));

  EXPECT_TRUE(written) << to_text(written.error());
  EXPECT_EQ(get("vms/f"), bytes);
}

// Answered is not flushed: a host that was restarted in between may have forgotten it.
TEST_F(LossTest, AFlushAfterALossFailsOnceSoThatNothingIsTakenForDurable) {
  Share share(options());
  const auto file = share.open("f", Access::kCreateNew);
  ASSERT_TRUE(file);
  ASSERT_TRUE(share.write(*file, 0, "one"));
  ASSERT_TRUE(share.flush(*file));
  ASSERT_TRUE(share.write(*file, 0, "two"));
  ASSERT_TRUE(server_->restart());
  ASSERT_TRUE(share.write(*file, 3, "three"));

  const Status first = share.flush(*file);
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().code, ErrorCode::kUnavailable);
  ASSERT_TRUE(share.write(*file, 0, "twothree"));
  const Status second = share.flush(*file);

  EXPECT_TRUE(second) << to_text(second.error());
}

TEST_F(LossTest, WhatMayHaveHappenedIsNotRepeated) {
  put("vms/a", "x");
  ShareOptions hasty = options();
  hasty.request_timeout_ms = 500;
  Share quick(hasty);
  ASSERT_TRUE(quick.connect());
  // Stopped, so that it has the request and does not answer it.
  ::kill(quick.process().value_or(0), SIGSTOP);

  const Status renamed = quick.rename("a", "b");

  ASSERT_FALSE(renamed);
  EXPECT_EQ(renamed.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(get("vms/a"), "x");
  EXPECT_TRUE(quick.rename("a", "b"));  // By a process of its own again.
  EXPECT_EQ(get("vms/b"), "x");
}

TEST_F(LossTest, AFileThatIsGoneIsToldWhenItCannotBeOpenedAgain) {
  put("vms/f", "content");
  Share share(options());
  const auto file = share.open("f", Access::kRead);
  ASSERT_TRUE(file);
  server_->kill();
  std::filesystem::remove(folder_ / "vms/f");
  ASSERT_TRUE(server_->restart());

  std::string bytes(7, '?');
  const Status read = share.read(*file, 0, bytes);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kNotFound) << to_text(read.error());
  put("vms/f", "content");

  EXPECT_TRUE(share.read(*file, 0, bytes));
  EXPECT_EQ(bytes, "content");
  EXPECT_TRUE(share.close(*file));
}

}  // namespace
}  // namespace farside::agent::smb
