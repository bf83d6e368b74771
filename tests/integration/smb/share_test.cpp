// Files on a share of a real smbd, by a real farside-smb.
#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "tests/integration/smb/samba_fixture.h"

namespace farside::agent::smb {
namespace {

using ShareTest = SambaFixture;

template <class T>
void expect_good(const Result<T>& result, const char* expression) {
  EXPECT_TRUE(result) << expression << ": " << to_text(result.error());
}
#define EXPECT_OK(expression) expect_good(expression, #expression)

template <class T>
ErrorCode code_of(const Result<T>& result) {
  return result ? ErrorCode{} : result.error().code;
}

std::string hash_of(std::string_view bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), hash.data());
  return {hash.begin(), hash.end()};
}

TEST_F(ShareTest, AFileIsMadeWrittenReadRenamedAndRemoved) {
  Share share(options());
  EXPECT_OK(share.make_folders("vm 1\\disks"));
  EXPECT_OK(share.make_folders("vm 1/disks"));  // Again.
  auto file = share.open("vm 1/disks/a%20ä.vhdx", Access::kCreateNew);
  ASSERT_TRUE(file) << to_text(file.error());
  EXPECT_EQ(code_of(share.open("vm 1/disks/a%20ä.vhdx", Access::kCreateNew)),
            ErrorCode::kAlreadyExists);

  EXPECT_OK(share.write(*file, 0, "hello"));
  EXPECT_OK(share.write(*file, 10, "world"));
  EXPECT_EQ(share.size(*file).value_or(0), 15u);
  std::string bytes(15, '?');
  EXPECT_OK(share.read(*file, 0, bytes));
  EXPECT_EQ(bytes, std::string("hello\0\0\0\0\0world", 15));
  EXPECT_EQ(code_of(share.read(*file, 10, bytes)), ErrorCode::kCorrupt);  // Ends early.
  EXPECT_OK(share.truncate(*file, 7));
  EXPECT_EQ(share.size(*file).value_or(0), 7u);
  EXPECT_OK(share.truncate(*file, 1ULL << 31U));
  EXPECT_EQ(share.size(*file).value_or(0), 1ULL << 31U);
  EXPECT_OK(share.truncate(*file, 5));
  EXPECT_OK(share.flush(*file));
  EXPECT_EQ(code_of(share.rename("vm 1/disks/a%20ä.vhdx", "vm 1/b.vhdx")), ErrorCode::kConflict);
  EXPECT_OK(share.close(*file));
  EXPECT_EQ(code_of(share.size(*file)), ErrorCode::kInvalidArgument);
  EXPECT_OK(share.rename("vm 1/disks/a%20ä.vhdx", "vm 1\\b.vhdx"));
  EXPECT_EQ(get("vms/vm 1/b.vhdx"), "hello");

  const auto seen = share.attributes("vm 1/b.vhdx");
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->bytes, 5u);
  EXPECT_FALSE(seen->is_folder);
  struct stat local{};
  ::stat((folder_ / "vms/vm 1/b.vhdx").c_str(), &local);
  EXPECT_EQ(seen->modified_s, local.st_mtim.tv_sec);
  const auto list = share.list("vm 1");
  ASSERT_TRUE(list);
  ASSERT_EQ(list->size(), 2u);
  EXPECT_EQ((*list)[0].name, "b.vhdx");
  EXPECT_EQ((*list)[0].attributes.bytes, 5u);
  EXPECT_EQ((*list)[1].name, "disks");
  EXPECT_TRUE((*list)[1].attributes.is_folder);

  EXPECT_EQ(code_of(share.remove("vm 1")), ErrorCode::kConflict);  // Not empty.
  EXPECT_OK(share.remove("vm 1/b.vhdx"));
  EXPECT_EQ(code_of(share.attributes("vm 1/b.vhdx")), ErrorCode::kNotFound);
  EXPECT_OK(share.remove("vm 1/disks"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "vms/vm 1/disks"));
}

TEST_F(ShareTest, ARenameReplacesWhatIsThere) {
  put("vms/new", "new");
  put("vms/old", "old");
  Share share(options());

  EXPECT_OK(share.rename("new", "old"));

  EXPECT_EQ(get("vms/old"), "new");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "vms/new"));
}

TEST_F(ShareTest, ATreeIsRemovedAndTheShareItselfIsNot) {
  std::filesystem::create_directories(folder_ / "vms/a/b/c");
  put("vms/a/1", "x");
  put("vms/a/b/2", "x");
  put("vms/a/b/c/3", "x");
  put("vms/keep", "x");
  Share share(options());

  EXPECT_OK(share.remove_tree("a"));
  EXPECT_OK(share.remove_tree("a"));  // Again.
  EXPECT_EQ(code_of(share.remove_tree("\\")), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(share.attributes("../x")), ErrorCode::kInvalidArgument);

  EXPECT_FALSE(std::filesystem::exists(folder_ / "vms/a"));
  EXPECT_EQ(get("vms/keep"), "x");
}

TEST_F(ShareTest, ABigFileComesBackAsItWas) {
  const std::string bytes = pattern(96U << 20U);
  Share share(options());
  auto file = share.open_file("big", Access::kCreateNew);
  ASSERT_TRUE(file) << to_text(file.error());

  EXPECT_OK((*file)->write_at(0, bytes));
  EXPECT_OK((*file)->flush());
  file->reset();
  auto again = share.open_file("big", Access::kRead);
  ASSERT_TRUE(again);
  ASSERT_EQ((*again)->size().value_or(0), bytes.size());
  std::string back(bytes.size(), '\0');
  EXPECT_OK((*again)->read_at(0, back));

  EXPECT_EQ(hash_of(back), hash_of(bytes));
  EXPECT_EQ(hash_of(get("vms/big")), hash_of(bytes));
}

TEST_F(ShareTest, SeveralReadsAreUnderWayAndEndInTheirOrder) {
  const std::string bytes = pattern(16U << 20U);
  put("vms/f", bytes);
  Share share(options());
  const auto file = share.open("f", Access::kRead);
  ASSERT_TRUE(file);
  constexpr std::size_t kPiece = 512U << 10U;
  std::string back(bytes.size(), '\0');
  std::vector<std::size_t> order;
  std::size_t under_way_most = 0;

  for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
    EXPECT_OK(share.read_async(*file, at, kPiece, back.data() + at, [&, at](const Status& status) {
      EXPECT_OK(status);
      order.push_back(at / kPiece);
    }));
    under_way_most = std::max(under_way_most, share.under_way());
  }
  while (share.under_way() > 0) share.poll(10'000);

  EXPECT_EQ(under_way_most, options().reads_in_flight);
  EXPECT_EQ(order.size(), bytes.size() / kPiece);
  EXPECT_TRUE(std::ranges::is_sorted(order));
  EXPECT_EQ(back, bytes);
  EXPECT_EQ(code_of(share.read_async(*file, 0, kTransferBytesMax + 1, back.data(),
                                     [](const Status&) { FAIL(); })),
            ErrorCode::kInvalidArgument);
}

TEST_F(ShareTest, ACompletedReadMayStartTheNext) {
  const std::string bytes = pattern(1U << 20U);
  put("vms/f", bytes);
  Share share(options());
  const auto file = share.open("f", Access::kRead);
  ASSERT_TRUE(file);
  std::string back(bytes.size(), '\0');
  std::size_t next = 0;
  std::function<void()> start = [&] {
    const std::size_t at = next;
    next += 64U << 10U;
    EXPECT_OK(share.read_async(*file, at, 64U << 10U, back.data() + at, [&](const Status& status) {
      EXPECT_OK(status);
      if (next < bytes.size()) start();
    }));
  };

  start();
  while (share.under_way() > 0) share.poll(10'000);

  EXPECT_EQ(back, bytes);
}

TEST_F(ShareTest, ExtentsAreReadTogether) {
  const std::string bytes = pattern(8U << 20U);
  put("vms/f", bytes);
  Share share(options());
  const auto file = share.open("f", Access::kRead);
  ASSERT_TRUE(file);
  const std::vector<Extent> pieces{
      {5U << 20U, 3U << 20U}, {0, 10}, {4096, 64U << 10U}, {100'000, 8}, {3U << 20U, 1}};
  std::vector<std::string> got;
  std::vector<char*> to;
  for (const Extent& piece : pieces) got.emplace_back(piece.length, '?');
  for (std::string& one : got) to.push_back(one.data());

  EXPECT_OK(share.read_extents(*file, pieces, to));

  for (std::size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(got[i], bytes.substr(pieces[i].offset, pieces[i].length)) << i;
  }
}

TEST_F(ShareTest, AWrongPasswordAWrongShareAndAClosedShareAreToldApart) {
  ShareOptions wrong = options();
  wrong.password = "something else";
  EXPECT_EQ(code_of(Share(wrong).connect()), ErrorCode::kUnauthorized);
  EXPECT_EQ(code_of(Share(options("nothing")).connect()), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(Share(options("closed")).connect()), ErrorCode::kForbidden);
  ShareOptions nobody = options();
  nobody.port = 1;
  EXPECT_EQ(code_of(Share(nobody).connect()), ErrorCode::kUnavailable);
  ShareOptions no_program = options();
  no_program.program = folder_ / "none";
  EXPECT_EQ(code_of(Share(no_program).connect()), ErrorCode::kNotFound);
}

TEST_F(ShareTest, APasswordIsNeitherInTheArgumentsNorInTheEnvironment) {
  Share share(options());
  ASSERT_TRUE(share.connect());
  const std::string proc = "/proc/" + std::to_string(share.process().value_or(0));
  for (const char* name : {"/cmdline", "/environ"}) {
    std::ifstream in(proc + name, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    EXPECT_FALSE(text.empty()) << name;
    EXPECT_EQ(text.find(server_->options().password), std::string::npos) << name;
  }
}

TEST_F(ShareTest, WhatIsNotAllowedAndWhatIsOpenElsewhereAreToldApart) {
  put("guarded/secret", "x");
  ::chmod((folder_ / "guarded/secret").c_str(), 0600);
  Share guarded(options("guarded"));

  EXPECT_EQ(code_of(guarded.open("secret", Access::kRead)), ErrorCode::kForbidden);
  EXPECT_EQ(code_of(guarded.open("none", Access::kRead)), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(guarded.open("no/folder", Access::kCreateNew)), ErrorCode::kNotFound);

  // Deleting is against the share mode of an open that does not allow it.
  put("vms/held", "x");
  Share one(options());
  Share other(options());
  const auto file = one.open("held", Access::kReadWrite);
  ASSERT_TRUE(file);
  EXPECT_EQ(code_of(other.remove("held")), ErrorCode::kConflict);
  EXPECT_TRUE(other.open("held", Access::kRead));  // Readers do not hinder each other.
}

TEST_F(ShareTest, AnEncryptedAndAnUnsignedConnectionWork) {
  put("vms/f", "content");
  for (const bool encrypt : {true, false}) {
    ShareOptions wanted = options();
    wanted.encrypt = encrypt;
    wanted.sign = encrypt;
    Share share(wanted);
    const auto file = share.open("f", Access::kRead);
    ASSERT_TRUE(file) << to_text(file.error());
    std::string bytes(7, '?');
    EXPECT_OK(share.read(*file, 0, bytes));
    EXPECT_EQ(bytes, "content");
  }
}

class FlushTest : public SambaFixture {
 protected:
  FlushTest() { more_ = {"log level = 1 smb2:10"}; }

  std::size_t flushes() const {
    const std::string log = server_->log();
    std::size_t count = 0;
    for (std::size_t at = 0;
         (at = log.find("request_dispatch: opcode[SMB2_OP_FLUSH]", at)) != std::string::npos;
         ++at) {
      count += 1;
    }
    return count;
  }
};

TEST_F(FlushTest, AFlushIsAFlushOnTheWire) {
  Share share(options());
  const auto file = share.open("f", Access::kCreateNew);
  ASSERT_TRUE(file) << to_text(file.error());
  EXPECT_OK(share.write(*file, 0, pattern(3U << 20U)));
  EXPECT_EQ(flushes(), 0u);

  EXPECT_OK(share.flush(*file));
  EXPECT_EQ(flushes(), 1u);
  EXPECT_OK(share.flush(*file));  // Nothing new.
  EXPECT_EQ(flushes(), 1u);
}

TEST_F(FlushTest, ASizeAloneIsFlushedByAFileThatNeverWrote) {
  put("vms/f", pattern(4096));
  Share share(options());
  std::size_t before = 0;
  for (const std::uint64_t size : {100, 0}) {
    const auto file = share.open("f", Access::kReadWrite);
    ASSERT_TRUE(file);
    EXPECT_OK(share.truncate(*file, size));
    EXPECT_OK(share.flush(*file));
    EXPECT_EQ(flushes(), ++before);
    EXPECT_EQ(get("vms/f"), pattern(4096).substr(0, size));
    EXPECT_OK(share.close(*file));
  }
}

TEST_F(FlushTest, AnEncryptedConnectionHasFlushToo) {
  ShareOptions wanted = options();
  wanted.encrypt = true;
  Share share(wanted);
  const auto file = share.open("f", Access::kCreateNew);
  ASSERT_TRUE(file) << to_text(file.error());
  EXPECT_OK(share.write(*file, 0, "x"));
  EXPECT_OK(share.flush(*file));
  EXPECT_EQ(flushes(), 1u);
}

TEST_F(ShareTest, FreeSpaceIsThatOfTheVolume) {
  struct statvfs local{};
  ASSERT_EQ(::statvfs((folder_ / "vms").c_str(), &local), 0);
  Share share(options());

  const auto space = share.space();

  ASSERT_TRUE(space) << to_text(space.error());
  EXPECT_EQ(space->total_bytes, std::uint64_t{local.f_blocks} * local.f_frsize);
  // Others write to the same disk.
  const auto available = static_cast<double>(std::uint64_t{local.f_bavail} * local.f_frsize);
  EXPECT_NEAR(static_cast<double>(space->free_bytes), available, available / 10 + (4 << 20));
}

TEST_F(ShareTest, AFullVolumeIsToldAsSuch) {
  std::filesystem::create_directory(folder_ / "vms/small");
  const std::string place = folder_ / "vms/small";
  if (::mount("tmpfs", place.c_str(), "tmpfs", 0, "size=4m") != 0) {
    GTEST_SKIP() << "cannot mount a tmpfs here: " << std::strerror(errno);
  }
  {
    Share share(options());
    const auto file = share.open("small/f", Access::kCreateNew);
    EXPECT_TRUE(file);
    if (file) {
      EXPECT_EQ(code_of(share.write(*file, 0, pattern(16U << 20U))), ErrorCode::kNoSpace);
      EXPECT_OK(share.truncate(*file, 0));  // It goes on.
      EXPECT_OK(share.write(*file, 0, pattern(1U << 20U)));
    }
  }
  server_.reset();
  EXPECT_EQ(::umount(place.c_str()), 0);
}

// What the agent would never send ends the program with a message.
TEST_F(ShareTest, AMalformedRequestEndsTheProgram) {
  for (const std::string& bytes :
       {std::string("\xff\xff\xff\xff", 4),
        encode(1, Request(Open{.path = "x"})) + "\x05" + std::string(12, '\0')}) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    const std::string errors = folder_ / "errors";
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::dup2(::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
      ::dup2(ends[1], 3);
      ::execl(FARSIDE_SMB, FARSIDE_SMB, "3", nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    ASSERT_EQ(::send(ends[0], bytes.data(), bytes.size(), MSG_NOSIGNAL), std::ssize(bytes));
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    ::close(ends[0]);
    EXPECT_EQ(WEXITSTATUS(status), 2);
    EXPECT_NE(get("errors").find("SMB"), std::string::npos) << get("errors");
  }
}

}  // namespace
}  // namespace farside::agent::smb
