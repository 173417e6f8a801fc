#include "common/process/short_transfer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <array>
#include <numeric>
#include <vector>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

constexpr std::size_t kAll = 300'000;
constexpr std::size_t kPipe = 65'536;

struct Pipe {
  Pipe() { EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0); }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  int ends[2];
};

std::vector<unsigned char> counted() {
  std::vector<unsigned char> bytes(kAll);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 7 / 3);
  return bytes;
}

std::vector<unsigned char> read_from(const Pipe& pipe, std::size_t n) {
  std::vector<unsigned char> got(n);
  std::size_t done = 0;
  while (done < n) {
    const ssize_t r = read(pipe.ends[0], got.data() + done, n - done);
    if (r <= 0) break;
    done += static_cast<std::size_t>(r);
  }
  got.resize(done);
  return got;
}

/// Stops it in its write, and makes it go on.
void cut_and_continue(TracedChild& child) {
  child.interrupt();
  auto r = child.thread().registers();
  ASSERT_TRUE(r);
  const auto cut = is_cut_short(*r, child.memory());
  ASSERT_TRUE(cut && *cut) << "result " << r->rax;
  auto injection = child.returning();
  ASSERT_TRUE(injection) << injection.error().message();
  const auto rest = continue_short_transfer(child.pid(), *r, child.memory(), *injection);
  ASSERT_TRUE(rest) << rest.error().message();
  ASSERT_TRUE(injection->end());
  ASSERT_TRUE(child.thread().set_registers(*rest));
}

std::size_t count_mappings(pid_t pid) {
  const auto maps = read_proc_file("/proc/" + std::to_string(pid) + "/maps");
  const auto areas = parse_maps(*maps);
  std::size_t found = 0;
  for (const MemoryArea& area : *areas) {
    found += area.protection == (PROT_READ | PROT_EXEC) && area.anonymous() ? 1 : 0;
  }
  return found;
}

template <class Write>
void expect_whole(Write write_all, int interruptions) {
  Pipe pipe;
  const auto bytes = counted();
  TracedChild child([&] { return write_all(pipe.ends[1], bytes) ? 0 : 1; });
  child.await_sleep();
  child.seize();
  std::vector<unsigned char> got;
  for (int i = 0; i < interruptions; ++i) {
    // The write goes on for a bit before it is stopped again.
    const auto part = read_from(pipe, 10'000);
    got.insert(got.end(), part.begin(), part.end());
    child.await_sleep();
    cut_and_continue(child);
    if (testing::Test::HasFatalFailure()) return;
    ASSERT_TRUE(child.thread().resume());
  }
  EXPECT_EQ(count_mappings(child.pid()), 1U);
  child.interrupt();
  child.detach();
  const auto rest = read_from(pipe, kAll - got.size());
  got.insert(got.end(), rest.begin(), rest.end());
  EXPECT_EQ(got, bytes);
  EXPECT_EQ(child.end(), 0);
}

bool write_once(int fd, const std::vector<unsigned char>& bytes) {
  return write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
}

/// With the registers that a system call must not change checked.
bool write_by_hand(int fd, const std::vector<unsigned char>& bytes) {
  long result = SYS_write;
  auto second = reinterpret_cast<unsigned long>(bytes.data());
  unsigned long third = bytes.size();
  asm volatile("syscall"
               : "+a"(result), "+S"(second), "+d"(third)
               : "D"(static_cast<long>(fd))
               : "rcx", "r11", "memory");
  return result == static_cast<long>(bytes.size()) && third == bytes.size() &&
         second == reinterpret_cast<unsigned long>(bytes.data());
}

bool write_vectors(int fd, const std::vector<unsigned char>& bytes) {
  std::array<iovec, 5> vectors{};
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    constexpr std::size_t kPart = kAll / 5;
    vectors[i] = {const_cast<unsigned char*>(bytes.data()) + i * kPart, kPart};
  }
  return writev(fd, vectors.data(), vectors.size()) == static_cast<ssize_t>(bytes.size());
}

}  // namespace

TEST(ShortTransfer, GoesOnAfterAnInterruption) { expect_whole(write_once, 1); }
TEST(ShortTransfer, GoesOnHoweverOftenItIsInterrupted) { expect_whole(write_once, 17); }
TEST(ShortTransfer, LeavesTheRegistersOfTheCall) { expect_whole(write_by_hand, 2); }
TEST(ShortTransfer, GoesOnWithTheRestOfTheVectors) { expect_whole(write_vectors, 3); }

TEST(ShortTransfer, ReportsWhatWasWrittenWhenTheRestFails) {
  Pipe pipe;
  const auto bytes = counted();
  TracedChild child([&] {
    signal(SIGPIPE, SIG_IGN);
    close(pipe.ends[0]);
    return write(pipe.ends[1], bytes.data(), bytes.size()) == kPipe + 4096 ? 0 : 1;
  });
  child.await_sleep();
  child.seize();
  static_cast<void>(read_from(pipe, 4096));
  child.await_sleep();
  cut_and_continue(child);
  child.detach();
  child.await_sleep();
  close(std::exchange(pipe.ends[0], -1));
  EXPECT_EQ(child.end(), 0);
}

TEST(ShortTransfer, IsNotAWriteThatWroteAll) {
  Pipe pipe;
  TracedChild child([&] {
    const char byte = 'x';
    if (write(pipe.ends[1], &byte, 1) != 1) return 1;
    pause();
    return 0;
  });
  child.await_sleep();
  child.seize();
  child.interrupt();
  const auto r = child.thread().registers();
  ASSERT_TRUE(r);
  const auto cut = is_cut_short(*r, child.memory());
  ASSERT_TRUE(cut);
  EXPECT_FALSE(*cut);
}

TEST(ShortTransfer, ConcernsPipesSocketsAndTerminals) {
  Pipe pipe;
  const OwnedFd file(open("/proc/self/status", O_RDONLY));
  EXPECT_TRUE(transfers_wait(getpid(), pipe.ends[1]));
  EXPECT_FALSE(transfers_wait(getpid(), file.get()));
  EXPECT_FALSE(transfers_wait(getpid(), 9999));
}

// A datagram comes as a whole: what is shorter than the buffer is not cut short.
TEST(ShortTransfer, DoesNotConcernDatagrams) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  EXPECT_TRUE(transfers_wait(getpid(), ends[0]));
  close(ends[0]);
  close(ends[1]);
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
  EXPECT_FALSE(transfers_wait(getpid(), ends[0]));
  close(ends[0]);
  close(ends[1]);
}

}  // namespace drover
