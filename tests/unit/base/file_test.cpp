#include "common/base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>

namespace farside {
namespace {

TEST(File, OnlyWhatAVolumeLostIsAnErrorOfIt) {
  for (const int number : {EIO, EBADMSG, EUCLEAN, ENODATA, EILSEQ}) {
    EXPECT_EQ(from_errno(number, "read").code, ErrorCode::kIo) << number;
  }
  for (const int number :
       {EMFILE, ENFILE, ENOMEM, EAGAIN, ESTALE, ETIMEDOUT, EHOSTDOWN, ENOTCONN, ENODEV, EINVAL}) {
    const Error error = from_errno(number, "read");
    EXPECT_EQ(error.code, ErrorCode::kUnavailable) << number;
    EXPECT_TRUE(error.is_retryable());
    EXPECT_FALSE(error.advice.empty()) << number;
  }
  EXPECT_EQ(from_errno(ENOENT, "read").code, ErrorCode::kNotFound);
  EXPECT_EQ(from_errno(ENOSPC, "read").code, ErrorCode::kNoSpace);
  EXPECT_EQ(from_errno(EACCES, "read").code, ErrorCode::kForbidden);
  EXPECT_NE(from_errno(EMFILE, "open").advice.find("limit of open files"), std::string::npos);
  EXPECT_NE(from_errno(ESTALE, "read").advice.find("mount"), std::string::npos);
}

TEST(File, AsManyAreOpenAsMayBe) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low{.rlim_cur = 64, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);

  raise_open_files_limit();

  rlimit now{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &now), 0);
  EXPECT_EQ(now.rlim_cur, before.rlim_max);
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace farside
