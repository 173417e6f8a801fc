#include "remote-syscall/home_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

/// Marshals from the test's own memory, as a body's calls are from its.
class OwnMemory final : public MemoryReader {
 public:
  Result<std::size_t> read(ForeignAddress from, std::span<std::byte> into) override {
    std::memcpy(into.data(), reinterpret_cast<const void*>(from.value()), into.size());
    return into.size();
  }
};

std::uint64_t address(const void* p) { return reinterpret_cast<std::uint64_t>(p); }

/// A process that has a file open, and waits.
class HomeFilesTest : public testing::Test {
 public:
  HomeFilesTest() {
    directory_ =
        std::filesystem::temp_directory_path() / ("home_files." + std::to_string(getpid()));
    std::filesystem::create_directory(directory_);
    std::ofstream(path()) << "0123456789";
    fd_ = open(path().c_str(), O_RDWR);
    child_.emplace([] {
      for (;;) pause();
      return 0;
    });
    child_->seize();
    child_->await_sleep();
    files_.emplace(child_->pid());
  }
  ~HomeFilesTest() override {
    close(fd_);
    std::filesystem::remove_all(directory_);
  }

 protected:
  std::string path() const { return directory_ / "file"; }

  std::optional<std::int64_t> call(int number, const CallArguments& arguments) {
    OwnMemory memory;
    EXPECT_TRUE(marshal_call(number, arguments, memory, request_));
    return files_->execute(request_, out_);
  }
  std::optional<std::int64_t> read_some(std::uint64_t length) {
    return call(SYS_read, {fd(), address(buffer_), length});
  }
  std::string read_text() const {
    return {reinterpret_cast<const char*>(out_.data()), out_.size()};
  }
  std::uint64_t fd() const { return static_cast<std::uint64_t>(fd_); }
  /// How many descriptors of ours lead to the file, but for fd_.
  int duplicates() const {
    int n = -1;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(entry.path(), gone) == path()) ++n;
    }
    return n;
  }

  std::filesystem::path directory_;
  int fd_ = -1;  // of the same number and description in the child
  std::optional<TracedChild> child_;
  std::optional<HomeFiles> files_;
  CallRequest request_;
  Bytes out_;
  char buffer_[200'000] = {};
};

TEST_F(HomeFilesTest, ReadsFromTheSharedOffset) {
  EXPECT_EQ(read_some(4), 4);
  EXPECT_EQ(read_text(), "0123");
  EXPECT_EQ(lseek(fd_, 0, SEEK_CUR), 4);
  EXPECT_EQ(read_some(100), 6);
  EXPECT_EQ(read_text(), "456789");
  EXPECT_EQ(read_some(100), 0);
  EXPECT_TRUE(out_.empty());
}

TEST_F(HomeFilesTest, ReadsAtAPosition) {
  EXPECT_EQ(call(SYS_pread64, {fd(), address(buffer_), 5, 1}), 5);
  EXPECT_EQ(read_text(), "12345");
  EXPECT_EQ(lseek(fd_, 0, SEEK_CUR), 0);
}

TEST_F(HomeFilesTest, MovesTheSharedOffset) {
  EXPECT_EQ(call(SYS_lseek, {fd(), 0, SEEK_END}), 10);
  EXPECT_EQ(lseek(fd_, 0, SEEK_CUR), 10);
  EXPECT_EQ(call(SYS_lseek, {fd(), static_cast<std::uint64_t>(-100), SEEK_CUR}), -EINVAL);
  EXPECT_EQ(call(SYS_lseek, {fd(), 0, SEEK_HOLE}), std::nullopt);
}

TEST_F(HomeFilesTest, SaysWhatTheFileIs) {
  struct stat want {};
  ASSERT_EQ(fstat(fd_, &want), 0);
  struct stat got {};
  ASSERT_EQ(call(SYS_fstat, {fd(), address(buffer_)}), 0);
  ASSERT_EQ(out_.size(), sizeof got);
  std::memcpy(&got, out_.data(), sizeof got);
  EXPECT_EQ(got.st_ino, want.st_ino);
  EXPECT_EQ(got.st_size, 10);
}

TEST_F(HomeFilesTest, LeavesToPWhatIsNotSuchAFile) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_EQ(call(SYS_read, {static_cast<std::uint64_t>(ends[0]), address(buffer_), 1}),
            std::nullopt);
  const int proc = open("/proc/self/stat", O_RDONLY);
  EXPECT_EQ(call(SYS_read, {static_cast<std::uint64_t>(proc), address(buffer_), 1}), std::nullopt);
  EXPECT_EQ(call(SYS_read, {999, address(buffer_), 1}), std::nullopt);
  EXPECT_EQ(call(SYS_fsync, {fd()}), std::nullopt);
  close(proc);
  close(ends[0]);
  close(ends[1]);
}

// What only a part of is in memory is P's as a whole: half of it would have moved the offset.
TEST_F(HomeFilesTest, LeavesToPWhatIsNotInMemory) {
  constexpr std::size_t kSize = 100'000;
  ASSERT_EQ(ftruncate(fd_, 0), 0);
  ASSERT_EQ(pwrite(fd_, buffer_, kSize, 0), static_cast<ssize_t>(kSize));
  ASSERT_EQ(fsync(fd_), 0);
  ASSERT_EQ(posix_fadvise(fd_, 64 << 10, 0, POSIX_FADV_DONTNEED), 0);
  if (read_some(kSize) == kSize) GTEST_SKIP() << "the file system keeps it in memory";
  EXPECT_EQ(read_some(kSize), std::nullopt);
  EXPECT_EQ(lseek(fd_, 0, SEEK_CUR), 0);
  EXPECT_EQ(read_some(4096), 4096);
}

TEST_F(HomeFilesTest, LeavesWritesToP) {
  EXPECT_EQ(call(SYS_write, {fd(), address("x"), 1}), std::nullopt);
  EXPECT_EQ(call(SYS_pwrite64, {fd(), address("x"), 1, 0}), std::nullopt);
}

TEST_F(HomeFilesTest, GivesUpWhatPCloses) {
  ASSERT_EQ(flock(fd_, LOCK_EX), 0);
  EXPECT_EQ(read_some(1), 1);
  EXPECT_EQ(duplicates(), 1);
  request_.number = SYS_close;
  request_.arguments = {fd()};
  files_->before_in_p(request_);
  EXPECT_EQ(duplicates(), 0);
  EXPECT_EQ(read_some(1), 1);
  request_.number = SYS_dup2;
  request_.arguments = {0, fd()};
  files_->before_in_p(request_);
  EXPECT_EQ(duplicates(), 0);
  EXPECT_EQ(read_some(1), 1);
  files_->forget_all();
  EXPECT_EQ(duplicates(), 0);
}

}  // namespace

// Another process may share P's descriptors, as a child of clone(CLONE_FILES) does.
TEST(HomeFiles, NoticesThatAnotherHasReplacedADescriptor) {
  char name[] = "/tmp/home_files.XXXXXX";
  const int first = mkstemp(name);
  ASSERT_EQ(write(first, "first", 5), 5);
  TracedChild child([] {
    for (;;) pause();
    return 0;
  });
  child.seize();
  child.await_sleep();
  HomeFiles files(child.pid());
  char buffer[5];
  OwnMemory memory;
  CallRequest request;
  Bytes out;
  ASSERT_TRUE(marshal_call(SYS_pread64, {static_cast<std::uint64_t>(first), address(buffer), 5, 0},
                           memory, request));
  ASSERT_EQ(files.execute(request, out), 5);
  child.interrupt();
  {
    auto injection = child.returning();
    ASSERT_TRUE(injection);
    ASSERT_TRUE(injection->call("close", SYS_close, {static_cast<std::uint64_t>(first)}));
    ASSERT_TRUE(injection->end());
  }
  EXPECT_EQ(files.execute(request, out), std::nullopt);
  close(first);
  unlink(name);
}

}  // namespace drover
