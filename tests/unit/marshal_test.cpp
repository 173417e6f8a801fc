// Calls are forwarded here from this process to itself: marshalled, sent over the wire format,
// placed in a scratch full of garbage, executed, and what comes back is written to where the
// caller wanted it. Every call must then have done what it does natively.
#include "remote-syscall/marshal.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <optional>
#include <random>
#include <string>

#include "common/owned_fd.h"

namespace drover {
namespace {

/// The memory of this process, as a guest sees that of a body.
class OwnMemory : public MemoryReader, public MemoryWriter {
 public:
  Result<std::size_t> read(ForeignAddress address, std::span<std::byte> into) override {
    const iovec local{into.data(), into.size()};
    const iovec remote{reinterpret_cast<void*>(address.value()), into.size()};
    const ssize_t got = ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0);
    return static_cast<std::size_t>(std::max<ssize_t>(got, 0));
  }
  Status write(ForeignAddress address, ByteView data) override {
    const iovec local{const_cast<std::byte*>(data.data()), data.size()};
    const iovec remote{reinterpret_cast<void*>(address.value()), data.size()};
    const ssize_t put = ::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0);
    if (put != static_cast<ssize_t>(data.size())) return Error{EFAULT, "write"};
    return {};
  }
};

std::int64_t raw_syscall(int number, const CallArguments& a) {
  std::int64_t result;
  // Read first: a sanitizer calls a function at each access, and that one uses these registers.
  const std::uint64_t a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3], a4 = a[4], a5 = a[5];
  register std::uint64_t r10 asm("r10") = a3;
  register std::uint64_t r8 asm("r8") = a4;
  register std::uint64_t r9 asm("r9") = a5;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(static_cast<std::int64_t>(number)), "D"(a0), "S"(a1), "d"(a2), "r"(r10),
                 "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

template <class T>
std::uint64_t word(T value) {
  if constexpr (std::is_null_pointer_v<T>)
    return 0;
  else if constexpr (std::is_pointer_v<T>)
    return reinterpret_cast<std::uint64_t>(value);
  else
    return static_cast<std::uint64_t>(value);
}

template <class... T>
CallArguments arguments_of(T... values) {
  CallArguments arguments{};
  std::size_t i = 0;
  ((arguments[i++] = word(values)), ...);
  return arguments;
}

class MarshalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    scratch_ = static_cast<std::byte*>(
        ::mmap(nullptr, kMaxLayout, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(scratch_, MAP_FAILED);
    // Three pages of which only the middle one is there.
    auto* pages = static_cast<std::byte*>(
        ::mmap(nullptr, 3 * kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(pages, MAP_FAILED);
    island_ = pages + kPageSize;
    ASSERT_EQ(::mprotect(island_, kPageSize, PROT_READ | PROT_WRITE), 0);
    unmapped_ = island_ + kPageSize;
  }
  void TearDown() override {
    ::munmap(scratch_, kMaxLayout);
    ::munmap(island_ - kPageSize, 3 * kPageSize);
  }

  /// What the body gets as the call's result: -errno, or the result.
  template <class... T>
  std::int64_t forward(int number, T... values) {
    return forward_call(number, arguments_of(values...));
  }

  std::int64_t forward_call(int number, const CallArguments& arguments) {
    const Status marshalled = marshal_call(number, arguments, memory_, guest_);
    EXPECT_TRUE(marshalled) << marshalled.error().message();
    WireWriter call;
    guest_.encode(call);
    WireReader call_reader(call.data());
    const Status decoded = home_.decode(call_reader);
    EXPECT_TRUE(decoded) << decoded.error().message();

    std::memset(scratch_, 0xa5, std::min<std::size_t>(home_.layout_size + 64, kMaxLayout));
    const ForeignAddress base(word(scratch_));
    const CallArguments placed = place(home_, base);
    std::copy(home_.data.begin(), home_.data.end(), scratch_);
    const std::int64_t result = raw_syscall(home_.number, placed);

    CallReply reply{.result = result, .pieces = {}, .data = {}};
    const auto sum = pieces_to_return(home_, result, memory_, base, reply.pieces);
    EXPECT_TRUE(sum);
    returned_ = 0;
    Bytes contents;
    for (const Piece& piece : reply.pieces) {
      contents.insert(contents.end(), scratch_ + piece.offset,
                      scratch_ + piece.offset + piece.length);
      returned_ += piece.length;
    }
    EXPECT_EQ(returned_, *sum);
    reply.data = contents;
    WireWriter answer;
    reply.encode(answer);
    WireReader answer_reader(answer.data());
    CallReply back;
    EXPECT_TRUE(back.decode(answer_reader));
    const Status applied = apply_reply(guest_, back, memory_);
    if (!applied) {
      EXPECT_EQ(applied.error().code, EFAULT) << applied.error().message();
      return -applied.error().code;
    }
    return back.result;
  }

  template <class... T>
  std::string refused(int number, T... values) {
    const Status status = marshal_call(number, arguments_of(values...), memory_, guest_);
    EXPECT_FALSE(status);
    if (status) return "";
    EXPECT_EQ(status.error().code, 0);
    return status.error().what;
  }

  /// A call that must fail equally at home and away.
  template <class... T>
  void same_error(int number, T... values) {
    const CallArguments arguments = arguments_of(values...);
    const std::int64_t native = raw_syscall(number, arguments);
    EXPECT_LT(native, 0) << syscall_name(number);
    EXPECT_EQ(forward_call(number, arguments), native) << syscall_name(number);
  }

  OwnedFd temporary_file(const std::string& contents = "") {
    char name[] = "/tmp/marshal_test_XXXXXX";
    OwnedFd fd(::mkstemp(name));
    EXPECT_TRUE(fd.valid());
    path_ = name;
    ::unlink(name);
    EXPECT_EQ(::pwrite(fd.get(), contents.data(), contents.size(), 0),
              static_cast<ssize_t>(contents.size()));
    return fd;
  }

  struct Pipe {
    OwnedFd reader, writer;
  };
  Pipe make_pipe() {
    int fds[2] = {-1, -1};
    EXPECT_EQ(forward(SYS_pipe2, fds, O_CLOEXEC), 0);
    return {OwnedFd(fds[0]), OwnedFd(fds[1])};
  }
  Pipe make_pair(int type) {
    int fds[2] = {-1, -1};
    EXPECT_EQ(forward(SYS_socketpair, AF_UNIX, type, 0, fds), 0);
    return {OwnedFd(fds[0]), OwnedFd(fds[1])};
  }

  OwnMemory memory_;
  CallRequest guest_, home_;
  std::byte* scratch_ = nullptr;
  std::byte* island_ = nullptr;
  std::byte* unmapped_ = nullptr;
  std::string path_;
  std::size_t returned_ = 0;
};

TEST_F(MarshalTest, ReadsAndWritesBytes) {
  auto [reader, writer] = make_pipe();
  EXPECT_EQ(forward(SYS_write, writer.get(), "hello", 5), 5);
  char buffer[64] = {};
  EXPECT_EQ(forward(SYS_read, reader.get(), buffer, sizeof buffer), 5);
  EXPECT_STREQ(buffer, "hello");
  EXPECT_EQ(returned_, 5u) << "only what was read travels";
  EXPECT_EQ(forward(SYS_write, writer.get(), buffer, 0), 0);
}

TEST_F(MarshalTest, OutBuffersDoNotTravelToHome) {
  OwnedFd file = temporary_file(std::string(4096, 'x'));
  char buffer[4096];
  EXPECT_EQ(forward(SYS_pread64, file.get(), buffer, sizeof buffer, 0), 4096);
  EXPECT_TRUE(guest_.data.empty());
  EXPECT_EQ(std::string(buffer, 4096), std::string(4096, 'x'));
}

TEST_F(MarshalTest, WritesTheReadableFrontOfABuffer) {
  auto [reader, writer] = make_pipe();
  std::memset(island_, 'a', kPageSize);
  EXPECT_EQ(forward(SYS_write, writer.get(), unmapped_ - 100, 300), 100);
}

TEST_F(MarshalTest, BadPointersFailAsTheKernelFailsThem) {
  auto [reader, writer] = make_pipe();
  const auto kernel_address = reinterpret_cast<void*>(0xffff888000000000);
  for (void* bad : {static_cast<void*>(unmapped_), kernel_address, static_cast<void*>(nullptr)}) {
    same_error(SYS_write, writer.get(), bad, 10);
    same_error(SYS_write, -1, bad, 10);
    same_error(SYS_read, -1, bad, 10);
    same_error(SYS_open, bad, O_RDONLY);
    same_error(SYS_stat, "/", bad);
    same_error(SYS_stat, "/nonexistent", bad);
    same_error(SYS_writev, writer.get(), bad, 2);
    same_error(SYS_writev, writer.get(), bad, 5000);
    same_error(SYS_poll, bad, 3, 0);
    same_error(SYS_pipe, bad);
    same_error(SYS_sendmsg, writer.get(), bad, 0);
    same_error(SYS_bind, 0, bad, 16);
    same_error(SYS_fcntl, writer.get(), F_SETLK, bad);
    same_error(SYS_nanosleep, bad, nullptr);
    same_error(SYS_epoll_ctl, -1, EPOLL_CTL_ADD, 0, bad);
    same_error(SYS_getcwd, bad, 4096);
    same_error(SYS_uname, bad);
  }
  same_error(SYS_read, writer.get(), island_, 10);
  same_error(SYS_getcwd, island_, 1);
  same_error(SYS_readlink, "/proc/self/exe", island_, -1);
  same_error(SYS_readlink, "/proc/self/exe", island_, 0);
  same_error(SYS_epoll_wait, -1, island_, -1, 0);
  same_error(SYS_getgroups, -1, island_);
  same_error(SYS_select, -1, island_, nullptr, nullptr, nullptr);
}

TEST_F(MarshalTest, AnUnwritableBufferIsEfault) {
  OwnedFd file = temporary_file("contents");
  EXPECT_EQ(forward(SYS_pread64, file.get(), unmapped_, 8, 0), -EFAULT);
  ::mprotect(island_, kPageSize, PROT_READ);
  EXPECT_EQ(forward(SYS_pread64, file.get(), island_, 8, 0), -EFAULT);
}

TEST_F(MarshalTest, PathsEndAtTheirNul) {
  // The last byte of a page, behind which there is nothing.
  char* path = reinterpret_cast<char*>(unmapped_) - sizeof "/dev/null";
  std::strcpy(path, "/dev/null");
  const std::int64_t fd = forward(SYS_openat, AT_FDCWD, path, O_RDWR, 0);
  ASSERT_GE(fd, 0);
  OwnedFd owner(static_cast<int>(fd));
  path[sizeof "/dev/null" - 1] = 'x';  // no NUL any more
  same_error(SYS_openat, AT_FDCWD, path, O_RDWR, 0);

  const std::string longest(5000, 'p');
  same_error(SYS_open, longest.c_str(), O_RDONLY);
  EXPECT_EQ(forward(SYS_open, longest.c_str(), O_RDONLY), -ENAMETOOLONG);
  const std::string fitting = std::string(4080, '/') + "dev/null";
  EXPECT_EQ(forward(SYS_access, fitting.c_str(), R_OK), 0);
  same_error(SYS_setxattr, "/dev/null", std::string(300, 'x').c_str(), "v", 1, 0);
  same_error(SYS_rename, "/nonexistent/a", "/nonexistent/b");
}

TEST_F(MarshalTest, VectorsAreGatheredAndScattered) {
  auto [reader, writer] = make_pipe();
  char hello[] = "hello ", world[] = "world", empty[1];
  const iovec out[] = {{hello, 6}, {empty, 0}, {nullptr, 0}, {world, 5}};
  EXPECT_EQ(forward(SYS_writev, writer.get(), out, 4), 11);
  char a[4] = {}, b[100] = {};
  std::memset(b, '-', sizeof b);
  const iovec in[] = {{a, 4}, {b, 100}};
  EXPECT_EQ(forward(SYS_readv, reader.get(), in, 2), 11);
  EXPECT_EQ(std::string(a, 4) + std::string(b, 8), "hello world-");
  EXPECT_EQ(returned_, 11u);
  EXPECT_EQ(forward(SYS_writev, writer.get(), out, 0), 0);
}

TEST_F(MarshalTest, VectorsWithBadPartsFailAsTheKernelFailsThem) {
  auto [reader, writer] = make_pipe();
  char good[] = "good";
  iovec parts[] = {{good, 4}, {unmapped_ - 2, 10}, {good, 4}};
  EXPECT_EQ(forward(SYS_writev, writer.get(), parts, 3), 6);
  parts[1].iov_base = unmapped_;
  EXPECT_EQ(forward(SYS_writev, writer.get(), parts, 3), 4);
  parts[0].iov_base = unmapped_;
  same_error(SYS_writev, writer.get(), parts, 3);
  parts[0] = {good, SIZE_MAX};
  same_error(SYS_writev, writer.get(), parts, 3);
  same_error(SYS_readv, reader.get(), parts, 3);
  same_error(SYS_writev, -1, parts, 1025);
  same_error(SYS_writev, writer.get(), parts, 1025);
}

TEST_F(MarshalTest, PollAndSelectReportWhatIsReady) {
  auto [reader, writer] = make_pipe();
  pollfd fds[] = {{reader.get(), POLLIN, 0}, {writer.get(), POLLOUT, 0}};
  EXPECT_EQ(forward(SYS_poll, fds, 2, 0), 1);
  EXPECT_EQ(fds[0].revents, 0);
  EXPECT_EQ(fds[1].revents, POLLOUT);
  ASSERT_EQ(::write(writer.get(), "x", 1), 1);
  timespec none{};
  sigset_t mask;
  sigemptyset(&mask);
  EXPECT_EQ(forward(SYS_ppoll, fds, 2, &none, &mask, 8), 2);
  EXPECT_EQ(fds[0].revents, POLLIN);

  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(reader.get(), &readable);
  FD_SET(writer.get(), &readable);
  timeval limit{5, 0};
  EXPECT_EQ(forward(SYS_select, 64, &readable, nullptr, nullptr, &limit), 1);
  EXPECT_TRUE(FD_ISSET(reader.get(), &readable));
  EXPECT_FALSE(FD_ISSET(writer.get(), &readable));
  EXPECT_TRUE(limit.tv_sec == 4 || limit.tv_sec == 5);

  struct {
    const sigset_t* mask;
    std::size_t size;
  } pack{&mask, 8};
  EXPECT_EQ(forward(SYS_pselect6, 64, &readable, nullptr, nullptr, &none, &pack), 1);
  pack.mask = reinterpret_cast<sigset_t*>(unmapped_);
  same_error(SYS_pselect6, 64, &readable, nullptr, nullptr, &none, &pack);
}

TEST_F(MarshalTest, SelectForgivesATimeoutThatCannotBeWritten) {
  auto* limit = reinterpret_cast<timeval*>(island_);
  *limit = {0, 1000};
  ::mprotect(island_, kPageSize, PROT_READ);
  EXPECT_EQ(forward(SYS_select, 0, nullptr, nullptr, nullptr, limit), 0);
}

volatile sig_atomic_t alarms = 0;

TEST_F(MarshalTest, AnInterruptedSleepLeavesTheTimeThatWasLeft) {
  struct sigaction action {};
  action.sa_handler = [](int) { alarms = alarms + 1; };
  ASSERT_EQ(::sigaction(SIGALRM, &action, nullptr), 0);
  const itimerval soon{{0, 0}, {0, 20000}};
  ASSERT_EQ(::setitimer(ITIMER_REAL, &soon, nullptr), 0);
  const timespec wanted{10, 0};
  timespec left{77, 77};
  EXPECT_EQ(forward(SYS_nanosleep, &wanted, &left), -EINTR);
  EXPECT_EQ(left.tv_sec, 9);
  left = {77, 77};
  const timespec moment{0, 1000};
  EXPECT_EQ(forward(SYS_nanosleep, &moment, &left), 0);
  EXPECT_EQ(left.tv_sec, 77) << "a sleep that ended leaves it alone";
}

TEST_F(MarshalTest, ARestartOfTheKernelsCountsAsInterrupted) {
  timespec wanted{10, 0}, left{77, 0};
  ASSERT_TRUE(marshal_call(SYS_nanosleep, arguments_of(&wanted, &left), memory_, guest_));
  std::vector<Piece> pieces;
  for (std::int64_t result : {-4, -512, -514, -516}) {
    EXPECT_EQ(*pieces_to_return(guest_, result, memory_, ForeignAddress(word(scratch_)), pieces),
              16u)
        << result;
  }
  EXPECT_EQ(*pieces_to_return(guest_, -EINVAL, memory_, ForeignAddress(word(scratch_)), pieces),
            0u);
}

TEST_F(MarshalTest, MessagesCarryNamesVectorsAndDescriptors) {
  auto [one, other] = make_pair(SOCK_STREAM);
  char text[] = "payload";
  iovec part{text, 7};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr out{};
  out.msg_iov = &part;
  out.msg_iovlen = 1;
  out.msg_control = control;
  out.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&out);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int sent = one.get();
  std::memcpy(CMSG_DATA(header), &sent, sizeof sent);
  EXPECT_EQ(forward(SYS_sendmsg, one.get(), &out, 0), 7);

  char a[3] = {}, b[20] = {};
  iovec parts[] = {{a, 3}, {b, 20}};
  alignas(cmsghdr) char room[200] = {};
  msghdr in{};
  in.msg_iov = parts;
  in.msg_iovlen = 2;
  in.msg_control = room;
  in.msg_controllen = sizeof room;
  in.msg_flags = 0x7777;
  EXPECT_EQ(forward(SYS_recvmsg, other.get(), &in, 0), 7);
  EXPECT_EQ(std::string(a, 3) + b, "payload");
  EXPECT_EQ(in.msg_iov, parts) << "pointers stay the caller's";
  EXPECT_EQ(in.msg_flags, 0);
  EXPECT_EQ(in.msg_controllen, CMSG_SPACE(sizeof(int)));
  ASSERT_NE(CMSG_FIRSTHDR(&in), nullptr);
  int received = -1;
  std::memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&in)), sizeof received);
  OwnedFd owner(received);
  EXPECT_GE(::fcntl(received, F_GETFD), 0);
}

TEST_F(MarshalTest, DatagramsComeWithTheirSendersAddress) {
  OwnedFd server(::socket(AF_INET, SOCK_DGRAM, 0)), client(::socket(AF_INET, SOCK_DGRAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(forward(SYS_bind, server.get(), &address, sizeof address), 0);
  socklen_t length = 0x7fffffff;  // larger than any address: no matter
  ASSERT_EQ(forward(SYS_getsockname, server.get(), &address, &length), 0);
  EXPECT_EQ(length, sizeof address);
  EXPECT_NE(address.sin_port, 0);

  EXPECT_EQ(forward(SYS_sendto, client.get(), "abcdef", 6, 0, &address, sizeof address), 6);
  char buffer[8] = "-------";
  sockaddr_in from{};
  length = sizeof from;
  EXPECT_EQ(forward(SYS_recvfrom, server.get(), buffer, 4, MSG_TRUNC, &from, &length), 6);
  EXPECT_STREQ(buffer, "abcd---");
  EXPECT_EQ(length, sizeof from);
  EXPECT_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  char cut[] = "????";
  length = 2;
  EXPECT_EQ(forward(SYS_sendto, client.get(), "x", 1, 0, &address, sizeof address), 1);
  EXPECT_EQ(forward(SYS_recvfrom, server.get(), buffer, 4, 0, cut, &length), 1);
  EXPECT_EQ(length, sizeof from) << "the true length";
  EXPECT_STREQ(cut + 2, "??") << "no more than there was room for";
}

TEST_F(MarshalTest, ManyMessagesGoInOneCall) {
  auto [one, other] = make_pair(SOCK_DGRAM);
  char first[] = "first", second[] = "2nd";
  iovec parts[] = {{first, 5}, {second, 3}};
  mmsghdr out[2] = {};
  for (int i = 0; i < 2; ++i) {
    out[i].msg_hdr.msg_iov = &parts[i];
    out[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(forward(SYS_sendmmsg, one.get(), out, 2, 0), 2);
  EXPECT_EQ(out[0].msg_len, 5u);
  EXPECT_EQ(out[1].msg_len, 3u);

  char a[2], b[10], c[10], d[10];
  std::memset(d, '-', sizeof d);
  iovec first_in[] = {{a, 2}, {b, 10}}, second_in[] = {{c, 10}}, third_in[] = {{d, 10}};
  mmsghdr in[3] = {};
  in[0].msg_hdr.msg_iov = first_in;
  in[0].msg_hdr.msg_iovlen = 2;
  in[1].msg_hdr.msg_iov = second_in;
  in[1].msg_hdr.msg_iovlen = 1;
  in[2].msg_hdr.msg_iov = third_in;
  in[2].msg_hdr.msg_iovlen = 1;
  in[2].msg_len = 99;
  EXPECT_EQ(forward(SYS_recvmmsg, other.get(), in, 3, MSG_DONTWAIT, nullptr), 2);
  EXPECT_EQ(std::string(a, 2) + std::string(b, 3), "first");
  EXPECT_EQ(std::string(c, 3), "2nd");
  EXPECT_EQ(in[2].msg_len, 99u) << "a message that did not come";
  EXPECT_EQ(d[0], '-');
}

TEST_F(MarshalTest, SocketOptionsHaveTheLengthTheyHave) {
  auto [one, other] = make_pair(SOCK_STREAM);
  const int size = 65536;
  EXPECT_EQ(forward(SYS_setsockopt, one.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
  char value[16];
  std::memset(value, 0x55, sizeof value);
  socklen_t length = sizeof value;
  EXPECT_EQ(forward(SYS_getsockopt, one.get(), SOL_SOCKET, SO_SNDBUF, value, &length), 0);
  EXPECT_EQ(length, sizeof(int));
  int got = 0;
  std::memcpy(&got, value, sizeof got);
  EXPECT_GE(got, size);
  EXPECT_EQ(value[4], 0x55);
  same_error(SYS_getsockopt, one.get(), SOL_SOCKET, SO_SNDBUF, value, unmapped_);
  length = static_cast<socklen_t>(-1);
  same_error(SYS_getsockopt, one.get(), SOL_SOCKET, SO_SNDBUF, value, &length);
}

TEST_F(MarshalTest, LocksOfAllKinds) {
  OwnedFd file = temporary_file("0123456789");
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_start = 2;
  lock.l_len = 3;
  EXPECT_EQ(forward(SYS_fcntl, file.get(), F_OFD_SETLK, &lock), 0);
  struct flock probe {};
  probe.l_type = F_WRLCK;
  EXPECT_EQ(forward(SYS_fcntl, file.get(), F_GETLK, &probe), 0);
  EXPECT_EQ(probe.l_start, 2);
  EXPECT_EQ(probe.l_len, 3);
  EXPECT_EQ(forward(SYS_flock, file.get(), LOCK_EX), 0);
  EXPECT_EQ(forward(SYS_fcntl, file.get(), F_GETFL), ::fcntl(file.get(), F_GETFL));
}

TEST_F(MarshalTest, TerminalsAnswerTheirIoctls) {
  OwnedFd terminal(::posix_openpt(O_RDWR | O_NOCTTY));
  if (!terminal) GTEST_SKIP() << "no pseudo-terminals here";
  winsize size{24, 80, 0, 0};
  EXPECT_EQ(forward(SYS_ioctl, terminal.get(), TIOCSWINSZ, &size), 0);
  winsize got{};
  EXPECT_EQ(forward(SYS_ioctl, terminal.get(), TIOCGWINSZ, &got), 0);
  EXPECT_EQ(got.ws_col, 80);
  std::byte settings[60];
  std::memset(settings, 0x77, sizeof settings);
  EXPECT_EQ(forward(SYS_ioctl, terminal.get(), TCGETS, settings), 0);
  EXPECT_EQ(settings[36], std::byte{0x77});
  EXPECT_EQ(forward(SYS_ioctl, terminal.get(), TCSETS, settings), 0);
  unsigned number = ~0u;
  EXPECT_EQ(forward(SYS_ioctl, terminal.get(), TIOCGPTN, &number), 0);
  EXPECT_NE(number, ~0u);
  int waiting = -1;
  EXPECT_EQ(forward(SYS_ioctl, terminal.get(), FIONREAD, &waiting), 0);
  EXPECT_EQ(waiting, 0);
  same_error(SYS_ioctl, -1, TCGETS, settings);
  EXPECT_EQ(refused(SYS_ioctl, terminal.get(), 0x1234, settings),
            "ioctl: operation 4660 cannot be forwarded");
}

TEST_F(MarshalTest, DirectoriesLinksAndFileStatus) {
  OwnedFd directory(::open("/proc/self/ns", O_RDONLY | O_DIRECTORY));
  char entries[4096];
  const std::int64_t bytes = forward(SYS_getdents64, directory.get(), entries, sizeof entries);
  EXPECT_GT(bytes, 0);
  EXPECT_EQ(returned_, static_cast<std::size_t>(bytes));
  char target[256] = {};
  EXPECT_GT(forward(SYS_readlink, "/proc/self/cwd", target, sizeof target), 0);
  char current[256] = {};
  EXPECT_GT(forward(SYS_getcwd, current, sizeof current), 0);
  EXPECT_STREQ(current, target);

  struct stat native, away;
  ASSERT_EQ(::stat("/etc", &native), 0);
  EXPECT_EQ(forward(SYS_stat, "/etc", &away), 0);
  EXPECT_EQ(native.st_ino, away.st_ino);
  EXPECT_EQ(native.st_mtim.tv_nsec, away.st_mtim.tv_nsec);
  EXPECT_EQ(forward(SYS_newfstatat, AT_FDCWD, "/etc", &away, 0), 0);
  struct statx extended {};
  EXPECT_EQ(forward(SYS_statx, AT_FDCWD, "/etc", 0, STATX_BASIC_STATS, &extended), 0);
  EXPECT_EQ(extended.stx_ino, native.st_ino);
  const open_how how{.flags = O_RDONLY, .mode = 0, .resolve = 0};
  const std::int64_t fd = forward(SYS_openat2, AT_FDCWD, "/etc", &how, sizeof how);
  ASSERT_GE(fd, 0);
  ::close(static_cast<int>(fd));
  same_error(SYS_openat2, AT_FDCWD, "/etc", &how, 3);
}

TEST_F(MarshalTest, OffsetsBehindPointersMove) {
  OwnedFd from = temporary_file("0123456789"), to = temporary_file();
  std::int64_t at = 3, target = 0;
  EXPECT_EQ(forward(SYS_copy_file_range, from.get(), &at, to.get(), &target, 4, 0), 4);
  EXPECT_EQ(at, 7);
  EXPECT_EQ(target, 4);
  EXPECT_EQ(forward(SYS_sendfile, to.get(), from.get(), &at, 2), 2);
  EXPECT_EQ(at, 9);
}

TEST_F(MarshalTest, EpollAndTimersAndSignalDescriptors) {
  OwnedFd epoll(static_cast<int>(forward(SYS_epoll_create1, 0)));
  OwnedFd event(static_cast<int>(forward(SYS_eventfd2, 5, 0)));
  epoll_event interest{};
  interest.events = EPOLLIN;
  interest.data.u64 = 0x1122334455667788;
  EXPECT_EQ(forward(SYS_epoll_ctl, epoll.get(), EPOLL_CTL_ADD, event.get(), &interest), 0);
  epoll_event ready[4] = {};
  EXPECT_EQ(forward(SYS_epoll_wait, epoll.get(), ready, 4, 0), 1);
  EXPECT_EQ(returned_, 12u);
  EXPECT_EQ(ready[0].data.u64, 0x1122334455667788u);

  OwnedFd timer(static_cast<int>(forward(SYS_timerfd_create, CLOCK_MONOTONIC, 0)));
  const itimerspec setting{{0, 0}, {100, 0}};
  itimerspec before{}, now{};
  EXPECT_EQ(forward(SYS_timerfd_settime, timer.get(), 0, &setting, &before), 0);
  EXPECT_EQ(forward(SYS_timerfd_gettime, timer.get(), &now), 0);
  EXPECT_GE(now.it_value.tv_sec, 99);
  timer_t id = nullptr;
  sigevent notify{};
  notify.sigev_notify = SIGEV_NONE;
  EXPECT_EQ(forward(SYS_timer_create, CLOCK_MONOTONIC, &notify, &id), 0);
  EXPECT_EQ(forward(SYS_timer_delete, id), 0);
  const std::uint64_t mask = 1;
  OwnedFd signals(static_cast<int>(forward(SYS_signalfd4, -1, &mask, 8, 0)));
  EXPECT_TRUE(signals.valid());
}

TEST_F(MarshalTest, WaitingLeavesTheStatusAloneUntilThereIsOne) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  int status = 0x5555;
  rusage usage{};
  EXPECT_EQ(forward(SYS_wait4, child, &status, WNOHANG, &usage), 0);
  EXPECT_EQ(status, 0x5555);
  siginfo_t info{};
  info.si_pid = 99;
  EXPECT_EQ(forward(SYS_waitid, P_PID, child, &info, WNOHANG | WEXITED, nullptr), 0);
  EXPECT_EQ(info.si_pid, 0);
  EXPECT_EQ(forward(SYS_kill, child, SIGKILL), 0);
  EXPECT_EQ(forward(SYS_waitid, P_PID, child, &info, WEXITED | WNOWAIT, &usage), 0);
  EXPECT_EQ(info.si_pid, child);
  EXPECT_EQ(info.si_status, SIGKILL);
  EXPECT_EQ(forward(SYS_wait4, child, &status, 0, &usage), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  same_error(SYS_wait4, child, &status, 0, &usage);
}

TEST_F(MarshalTest, IdsLimitsAndTheSystemsName) {
  EXPECT_EQ(forward(SYS_getppid), ::getppid());
  EXPECT_TRUE(guest_.relocations.empty() && guest_.data.empty());
  uid_t ids[3] = {};
  EXPECT_EQ(forward(SYS_getresuid, &ids[0], &ids[1], &ids[2]), 0);
  EXPECT_EQ(ids[1], ::geteuid());
  gid_t groups[256];
  EXPECT_EQ(forward(SYS_getgroups, 256, groups), ::getgroups(0, nullptr));
  EXPECT_EQ(forward(SYS_getgroups, 0, nullptr), ::getgroups(0, nullptr));
  utsname native, away;
  ASSERT_EQ(::uname(&native), 0);
  EXPECT_EQ(forward(SYS_uname, &away), 0);
  EXPECT_STREQ(native.release, away.release);
  rlimit limit{}, same{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(forward(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, &same), 0);
  EXPECT_EQ(limit.rlim_cur, same.rlim_cur);
  char name[17] = {};
  EXPECT_EQ(forward(SYS_prctl, PR_SET_NAME, "marshalled"), 0);
  EXPECT_EQ(forward(SYS_prctl, PR_GET_NAME, name), 0);
  EXPECT_STREQ(name, "marshalled");
  struct {
    std::uint32_t size, policy;
    std::uint64_t rest[6];
  } schedule{};
  EXPECT_EQ(forward(SYS_sched_getattr, 0, &schedule, sizeof schedule, 0), 0);
  EXPECT_EQ(schedule.size, 56u);
  EXPECT_EQ(forward(SYS_sched_setattr, 0, &schedule, 0), 0);
  schedule.size = 0;  // the first version
  EXPECT_EQ(forward(SYS_sched_setattr, 0, &schedule, 0), 0);
  schedule.size = 100000;
  EXPECT_EQ(forward(SYS_sched_setattr, 0, &schedule, 0), -E2BIG);
  EXPECT_LT(schedule.size, 4096u) << "the kernel's own size";
}

TEST_F(MarshalTest, SystemVMessages) {
  const int queue = ::msgget(IPC_PRIVATE, 0600);
  if (queue < 0) GTEST_SKIP() << "no SysV message queues here";
  struct {
    long type;
    char text[16];
  } out{3, "message"}, in{};
  EXPECT_EQ(forward(SYS_msgsnd, queue, &out, 8, 0), 0);
  EXPECT_EQ(forward(SYS_msgrcv, queue, &in, sizeof in.text, 0, IPC_NOWAIT), 8);
  EXPECT_EQ(returned_, 16u);
  EXPECT_EQ(in.type, 3);
  EXPECT_STREQ(in.text, "message");
  msqid_ds state{};
  EXPECT_EQ(forward(SYS_msgctl, queue, IPC_STAT, &state), 0);
  EXPECT_EQ(state.msg_lspid, ::getpid());
  EXPECT_EQ(forward(SYS_msgctl, queue, IPC_RMID, nullptr), 0);
}

TEST_F(MarshalTest, BuffersForDirectIoStayAsAlignedAsTheyWere) {
  auto* pages = static_cast<std::byte*>(
      ::mmap(nullptr, 16 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const iovec parts[] = {{pages + 3, 10},
                         {pages + kPageSize, 4096},
                         {pages + 3 * kPageSize + 512, 1024},
                         {pages + 8 * kPageSize + 100, 512}};
  for (int number : {SYS_writev, SYS_readv}) {
    ASSERT_TRUE(marshal_call(number, arguments_of(1, parts, 4), memory_, guest_));
    place(guest_, ForeignAddress(0x10000000));
    iovec placed[4];
    std::memcpy(placed, guest_.data.data(), sizeof placed);
    EXPECT_EQ(word(placed[1].iov_base) % 4096, 0u);
    EXPECT_EQ(word(placed[2].iov_base) % 512, 0u);
    EXPECT_NE(word(placed[3].iov_base) % 512, 0u);
    EXPECT_EQ(word(placed[3].iov_base) % 16, 100u % 16);
  }
  ::munmap(pages, 16 * kPageSize);
}

TEST_F(MarshalTest, WhatIsTooLargeComesHome) {
  Bytes large(kMaxCallBytes + 1);
  EXPECT_EQ(refused(SYS_write, 1, large.data(), large.size()),
            "write: more than 16 MiB in one call");
  refused(SYS_read, 0, large.data(), std::size_t{1} << 40);
  refused(SYS_read, 0, large.data(), SIZE_MAX);
  refused(SYS_msgsnd, 0, large.data(), SIZE_MAX);
  refused(SYS_epoll_wait, 0, large.data(), 0x7fffffff, 0);
  auto [reader, writer] = make_pipe();
  ASSERT_TRUE(
      marshal_call(SYS_write, arguments_of(1, large.data(), kMaxCallBytes), memory_, guest_));
  EXPECT_LE(guest_.layout_size, kMaxLayout);
}

TEST_F(MarshalTest, WhatHasNoRulesComesHome) {
  EXPECT_EQ(refused(SYS_io_uring_setup, 1, nullptr), "io_uring_setup cannot be forwarded");
  EXPECT_EQ(refused(400), "system call 400 is not known");
  EXPECT_EQ(refused(SYS_prctl, PR_SET_DUMPABLE, 1), "prctl: operation 4 cannot be forwarded");
}

// ---- The wire ----

TEST_F(MarshalTest, TruncatedRequestsAreRefused) {
  char text[] = "some bytes";
  const iovec parts[] = {{text, 4}, {text, 6}};
  ASSERT_TRUE(marshal_call(SYS_writev, arguments_of(1, parts, 2), memory_, guest_));
  WireWriter writer;
  guest_.encode(writer);
  for (std::size_t size = 0; size < writer.data().size(); ++size) {
    WireReader reader(ByteView(writer.data()).first(size));
    EXPECT_FALSE(home_.decode(reader)) << size;
  }
  Bytes longer = writer.data();
  longer.push_back(std::byte{0});
  WireReader reader(longer);
  EXPECT_FALSE(home_.decode(reader));
}

TEST_F(MarshalTest, RequestsThatReachOutOfTheScratchAreRefused) {
  CallRequest good;
  good.number = SYS_read;
  good.layout_size = 64;
  good.data.resize(16);
  const auto accepted = [&](auto&& change) {
    CallRequest request = good;
    change(request);
    WireWriter writer;
    request.encode(writer);
    WireReader reader(writer.data());
    return home_.decode(reader).ok();
  };
  EXPECT_TRUE(accepted([](CallRequest&) {}));
  EXPECT_TRUE(accepted([](CallRequest& r) {
    r.relocations = {{8, 64}, {Relocation::kArgument + 5, 0}};
  }));
  EXPECT_FALSE(accepted([](CallRequest& r) { r.relocations = {{9, 0}}; }));
  EXPECT_FALSE(accepted([](CallRequest& r) { r.relocations = {{0, 65}}; }));
  EXPECT_FALSE(accepted([](CallRequest& r) { r.relocations = {{Relocation::kArgument + 6, 0}}; }));
  EXPECT_FALSE(accepted([](CallRequest& r) { r.layout_size = kMaxLayout + 1; }));
  EXPECT_FALSE(accepted([](CallRequest& r) { r.layout_size = 15; }));
  const auto out = [&](OutRange range) {
    return accepted([&](CallRequest& r) { r.outs = {range}; });
  };
  EXPECT_TRUE(out({.offset = 16, .capacity = 48, .destination = {}}));
  EXPECT_FALSE(out({.offset = 16, .capacity = 49, .destination = {}}));
  EXPECT_FALSE(out({.offset = 0xffffffff, .capacity = 2, .destination = {}}));
  EXPECT_TRUE(out({.length = OutRange::kValue, .value_offset = 60, .destination = {}}));
  EXPECT_FALSE(out({.length = OutRange::kValue, .value_offset = 61, .destination = {}}));
  EXPECT_FALSE(out({.length = OutRange::kValue, .value_offset = 0xffffffff, .destination = {}}));
  EXPECT_FALSE(out({.length = static_cast<OutRange::Length>(3), .destination = {}}));
  EXPECT_FALSE(out({.when = static_cast<ReturnWhen>(4), .destination = {}}));
  EXPECT_FALSE(accepted([](CallRequest& r) {
    r.outs.assign(2, OutRange{.offset = 0, .capacity = 40, .destination = {}});
  })) << "a reply can be no larger than the scratch";
  EXPECT_FALSE(accepted([](CallRequest& r) { r.relocations.resize(kMaxRelocations + 1); }));
}

TEST_F(MarshalTest, RepliesThatWereNotAskedForAreRefused) {
  char buffer[16] = "untouched";
  ASSERT_TRUE(marshal_call(SYS_read, arguments_of(0, buffer, 16), memory_, guest_));
  const Bytes contents(64, std::byte{'x'});
  const auto apply = [&](std::vector<Piece> pieces, std::size_t size) {
    CallReply reply{
        .result = 16, .pieces = std::move(pieces), .data = ByteView(contents).first(size)};
    return apply_reply(guest_, reply, memory_);
  };
  EXPECT_FALSE(apply({{0, 17}}, 17));
  EXPECT_FALSE(apply({{1, 4}}, 4));
  EXPECT_FALSE(apply({{0, 4}, {0, 4}}, 8));
  EXPECT_FALSE(apply({{0, 8}}, 4));
  EXPECT_STREQ(buffer, "untouched");
  EXPECT_TRUE(apply({{0, 4}}, 4));
  EXPECT_STREQ(buffer, "xxxxuched");
}

TEST_F(MarshalTest, TruncatedRepliesAreRefused) {
  const Bytes contents(8, std::byte{'x'});
  const CallReply reply{.result = 8, .pieces = {{0, 3}, {8, 5}}, .data = contents};
  WireWriter writer;
  reply.encode(writer);
  CallReply back;
  for (std::size_t size = 0; size < writer.data().size(); ++size) {
    WireReader reader(ByteView(writer.data()).first(size));
    EXPECT_FALSE(back.decode(reader)) << size;
  }
  WireReader reader(writer.data());
  EXPECT_TRUE(back.decode(reader));
  EXPECT_EQ(back.data.size(), 8u);
}

TEST_F(MarshalTest, AnyArgumentsAreMarshalledOrRefused) {
  // Random calls with pointers to memory full of small and large numbers, near its end.
  std::mt19937_64 random(7);
  auto* words = reinterpret_cast<std::uint64_t*>(island_);
  for (int round = 0; round < 50000; ++round) {
    for (int i = 0; i < 24; ++i) {
      const std::uint64_t at = word(island_) + random() % (2 * kPageSize);
      const std::uint64_t choices[] = {random() % 32, at, random() >> random() % 64, 0};
      words[random() % (kPageSize / 8)] = choices[random() % 4];
    }
    CallArguments arguments{};
    for (std::uint64_t& argument : arguments) {
      const std::uint64_t at = word(island_) + random() % (kPageSize + 64);
      const std::uint64_t choices[] = {at, random() % 40, random() >> random() % 64, at & ~7ull};
      argument = choices[random() % 4];
    }
    const int number = static_cast<int>(random() % 480);
    const Status status = marshal_call(number, arguments, memory_, guest_);
    if (!status) {
      EXPECT_EQ(status.error().code, 0);
      continue;
    }
    WireWriter writer;
    guest_.encode(writer);
    WireReader reader(writer.data());
    const Status decoded = home_.decode(reader);
    ASSERT_TRUE(decoded) << syscall_name(number) << ": " << decoded.error().message();
    place(home_, ForeignAddress(word(scratch_)));
    std::vector<Piece> pieces;
    const auto sum = pieces_to_return(home_, static_cast<std::int64_t>(random() % 100), memory_,
                                      ForeignAddress(word(scratch_)), pieces);
    ASSERT_TRUE(sum);
    ASSERT_LE(*sum, home_.layout_size);
  }
}

}  // namespace
}  // namespace drover
