#include "migrate/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <functional>
#include <vector>

#include "common/process/memory_map.h"
#include "common/process/page_map.h"
#include "remote-syscall/body_messages.h"

// A system call instruction that a blank, being a copy of this program, has at the same address.
asm(R"(
  .text
  .globl drover_test_syscall
drover_test_syscall:
  syscall
  int3
)");
extern "C" char drover_test_syscall[];

namespace drover {
namespace {

/// Of the current guest, and the next one init's: a fresh pair each, as migrated gives them. No
/// other run's either: what a test before has left dies at its leisure, and would be counted here.
std::uint32_t g_outer_uid = 1879048192 + 4000 + 256 * static_cast<std::uint32_t>(getpid());
constexpr pid_t kPid = 12345;
/// Where injected calls have their arguments and results; the copy in the blank is used.
alignas(4096) char g_scratch[2 * 4096];
alignas(4096) const char kReadOnly[4096] = {7};

std::uint64_t address_of(const void* p) { return reinterpret_cast<std::uint64_t>(p); }

/// Runs `body` as migrated would run the guest: in a child with the throwaway uid and the two
/// capabilities. Expectations that fail there fail the test.
void as_guest(const std::function<void()>& body) {
  g_outer_uid += 2;
  std::fflush(nullptr);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(60);
    const Status status = enter_guest_identity(g_outer_uid);
    EXPECT_TRUE(status) << status.error().message();
    if (status) body();
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "in the guest";
}

SandboxSpec spec() {
  SandboxSpec spec;
  spec.job_uid = 1000;
  spec.job_gid = 1001;
  spec.outer_uid = g_outer_uid;
  spec.host_name = "home-node";
  spec.domain_name = "home.example";
  return spec;
}

/// Traces a blank and executes system calls in it.
class Seized {
 public:
  explicit Seized(const Sandbox::Process& process) : pid_(process.pid) {
    EXPECT_EQ(ptrace(PTRACE_SEIZE, pid_, nullptr, nullptr), 0) << strerror(errno);
    EXPECT_EQ(ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr), 0) << strerror(errno);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, __WALL), pid_);
    EXPECT_EQ(ptrace(PTRACE_GETREGS, pid_, nullptr, &start_), 0) << strerror(errno);
  }

  long call(long number, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0,
            std::uint64_t d = 0, std::uint64_t e = 0) {
    user_regs_struct regs = start_;
    regs.orig_rax = -1;
    regs.rax = number;
    regs.rip = address_of(drover_test_syscall);
    regs.rdi = a, regs.rsi = b, regs.rdx = c, regs.r10 = d, regs.r8 = e;
    int status = 0;
    bool stopped = ptrace(PTRACE_SETREGS, pid_, nullptr, &regs) == 0;
    do {  // an event of a fork comes before its result
      stopped = stopped && ptrace(PTRACE_CONT, pid_, nullptr, nullptr) == 0 &&
                waitpid(pid_, &status, __WALL) == pid_ && WIFSTOPPED(status);
    } while (stopped && status >> 16 != 0);
    if (!stopped || WSTOPSIG(status) != SIGTRAP) {
      ADD_FAILURE() << "injected call " << number << " failed, status " << status;
      return -ENOSYS;
    }
    ptrace(PTRACE_GETREGS, pid_, nullptr, &regs);
    return static_cast<long>(regs.rax);
  }

  template <class T>
  T read(const void* at) {
    T value{};
    iovec local{&value, sizeof value}, remote{const_cast<void*>(at), sizeof value};
    EXPECT_EQ(process_vm_readv(pid_, &local, 1, &remote, 1, 0), ssize_t{sizeof value});
    return value;
  }
  template <class T>
  long write(const void* at, const T& value) {
    iovec local{const_cast<T*>(&value), sizeof value};
    iovec remote{const_cast<void*>(at), sizeof value};
    const ssize_t n = process_vm_writev(pid_, &local, 1, &remote, 1, 0);
    return n < 0 ? -errno : n;
  }

 private:
  pid_t pid_;
  user_regs_struct start_{};
};

std::string status_field(pid_t pid, const std::string& field) {
  auto text = read_proc_file("/proc/" + std::to_string(pid) + "/status");
  if (!text) return text.error().message();
  const std::size_t at = text->find(field + ":\t");
  if (at == std::string::npos) return "?";
  const std::size_t start = at + field.size() + 2;
  return text->substr(start, text->find('\n', start) - start);
}

Sandbox make(const SandboxSpec& wanted = spec()) {
  auto sandbox = Sandbox::create(wanted);
  if (!sandbox) ADD_FAILURE() << sandbox.error().message();
  if (!sandbox) _exit(1);
  return *std::move(sandbox);
}

Sandbox::Blank blank_in(Sandbox& sandbox, pid_t pid = kPid) {
  auto blank = sandbox.make_blank(pid);
  if (!blank) ADD_FAILURE() << blank.error().message();
  if (!blank) _exit(1);
  return *std::move(blank);
}

std::int64_t nanoseconds(const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; }
std::int64_t clock_now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return nanoseconds(now);
}

struct Usage {
  int descriptors = 0;
  int processes = 0;  ///< of the throwaway uids
};
Usage usage() {
  Usage usage;
  std::error_code ignored;
  for ([[maybe_unused]] const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++usage.descriptors;
  }
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    struct stat status;
    if (!std::isdigit(entry.path().filename().native()[0])) continue;
    if (stat(entry.path().c_str(), &status) != 0) continue;
    usage.processes += status.st_uid == g_outer_uid || status.st_uid == g_outer_uid + 1;
  }
  return usage;
}

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root, as migrated has it";
  }
};

TEST_F(SandboxTest, a_blank_has_the_pid_and_the_ids_of_the_job) {
  as_guest([] {
    Sandbox sandbox = make();
    const Sandbox::Blank blank = blank_in(sandbox);
    EXPECT_EQ(blank.pid_inside, kPid);
    EXPECT_EQ(status_field(blank.pid, "NSpid"),
              std::to_string(blank.pid) + "\t" + std::to_string(kPid));
    const std::string outer = std::to_string(g_outer_uid);
    const std::string all_outer = outer + "\t" + outer + "\t" + outer + "\t" + outer;
    EXPECT_EQ(status_field(blank.pid, "Uid"), all_outer);
    EXPECT_EQ(status_field(blank.pid, "Gid"), all_outer);
    EXPECT_EQ(status_field(blank.pid, "Groups"), " ");
    EXPECT_EQ(status_field(blank.pid, "NoNewPrivs"), "1");
    EXPECT_EQ(status_field(blank.pid, "Threads"), "1");
    for (const char* set : {"SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"}) {
      EXPECT_EQ(status_field(blank.pid, set), "0000000000000000") << set;
    }
    Seized body(blank);
    EXPECT_EQ(body.call(SYS_getpid), kPid);
    EXPECT_EQ(body.call(SYS_gettid), kPid);
    EXPECT_EQ(body.call(SYS_getppid), 1);
    EXPECT_EQ(body.call(SYS_getuid), 1000);
    EXPECT_EQ(body.call(SYS_geteuid), 1000);
    EXPECT_EQ(body.call(SYS_getgid), 1001);
    EXPECT_EQ(body.call(SYS_getgroups, 0, 0), 0);
    EXPECT_EQ(body.call(SYS_prctl, PR_GET_DUMPABLE), 1);
  });
}

TEST_F(SandboxTest, a_blank_may_number_its_forks_and_do_nothing_else_with_capabilities) {
  as_guest([] {
    Sandbox sandbox = make();
    Seized body(blank_in(sandbox));
    constexpr std::uint64_t kOnly = 1ull << CAP_CHECKPOINT_RESTORE;
    auto* const header = reinterpret_cast<__user_cap_header_struct*>(g_scratch);
    auto* const sets = reinterpret_cast<__user_cap_data_struct*>(header + 1);
    body.write(header, __user_cap_header_struct{_LINUX_CAPABILITY_VERSION_3, 0});
    ASSERT_EQ(body.call(SYS_capget, address_of(header), address_of(sets)), 0);
    for (int i = 0; i < 2; ++i) {
      const auto set = body.read<__user_cap_data_struct>(sets + i);
      EXPECT_EQ(set.effective, static_cast<std::uint32_t>(kOnly >> (32 * i)));
      EXPECT_EQ(set.permitted, set.effective);
      EXPECT_EQ(set.inheritable, 0u);
    }
    EXPECT_EQ(body.call(SYS_setresuid, 0, 0, 0), -EPERM);
    EXPECT_EQ(body.call(SYS_sethostname, address_of(g_scratch), 1), -EPERM);
    EXPECT_EQ(body.call(SYS_unshare, CLONE_NEWNS), -EPERM);

    constexpr pid_t kChild = 23456;
    auto* const arguments = reinterpret_cast<clone_args*>(g_scratch);
    auto* const set_tid = reinterpret_cast<pid_t*>(arguments + 1);
    body.write(set_tid, kChild);
    clone_args fork_as{};
    fork_as.flags = CLONE_PARENT;
    fork_as.set_tid = address_of(set_tid);
    fork_as.set_tid_size = 1;
    body.write(arguments, fork_as);
    EXPECT_EQ(body.call(SYS_clone3, address_of(arguments), sizeof fork_as), kChild);
    auto child = sandbox.open_process(kChild);
    // It runs into the int3 behind the system call and dies of it; init must reap it.
    if (child) {
      pollfd ended{child->pidfd.get(), POLLIN, 0};
      EXPECT_EQ(poll(&ended, 1, 5000), 1);
    }
    for (int i = 0; i < 500 && body.call(SYS_kill, kChild, 0) != -ESRCH; ++i) usleep(1000);
    EXPECT_EQ(body.call(SYS_kill, kChild, 0), -ESRCH);
  });
}

TEST_F(SandboxTest, a_fork_inside_can_be_opened_for_the_guest) {
  as_guest([] {
    Sandbox sandbox = make();
    const Sandbox::Blank blank = blank_in(sandbox);
    auto same = sandbox.open_process(kPid);
    ASSERT_TRUE(same) << same.error().message();
    EXPECT_EQ(same->pid, blank.pid);
    char byte = 0;
    EXPECT_EQ(pread(same->mem.get(), &byte, 1, static_cast<off_t>(address_of(kReadOnly))), 1);
    EXPECT_EQ(byte, 7);
    auto none = sandbox.open_process(kPid + 1);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().message(), "sandbox: open process 12346: pidfd_open: No such process");
  });
}

TEST_F(SandboxTest, it_sees_an_empty_root_that_it_cannot_write_to) {
  as_guest([] {
    Sandbox sandbox = make();
    Seized body(blank_in(sandbox));
    char* const path = g_scratch;
    const auto open_path = [&](const char* name, int flags) {
      char text[64] = {};
      std::snprintf(text, sizeof text, "%s", name);
      body.write(path, text);
      return body.call(SYS_openat, AT_FDCWD, address_of(path), static_cast<unsigned>(flags), 0600);
    };
    for (const char* name : {"/proc", "/etc/passwd", "/tmp", "/proc/self/maps", "/dev/null"}) {
      EXPECT_EQ(open_path(name, O_RDONLY), -ENOENT) << name;
    }
    for (const char* root : {"/", ".", "/..", "../.."}) {
      const long fd = open_path(root, O_RDONLY | O_DIRECTORY);
      ASSERT_GE(fd, 0) << root;
      const long bytes = body.call(SYS_getdents64, fd, address_of(g_scratch), sizeof g_scratch);
      EXPECT_EQ(bytes, 48) << "only . and ..";
      body.call(SYS_close, fd);
    }
    EXPECT_EQ(open_path("/new", O_CREAT | O_RDWR), -EROFS);
    EXPECT_EQ(open_path("/", O_TMPFILE | O_RDWR), -EROFS);
    open_path("/new", O_PATH);
    EXPECT_EQ(body.call(SYS_mkdir, address_of(path), 0700), -EROFS);
  });
}

TEST_F(SandboxTest, it_has_one_network_interface_which_is_down_and_no_descriptor_but_its_socket) {
  as_guest([] {
    // So that there would be something to see.
    const OwnedFd stray(open("/dev/null", O_RDWR));
    const OwnedFd high(fcntl(stray.get(), F_DUPFD, 200));
    Sandbox sandbox = make();
    Seized body(blank_in(sandbox));
    for (int fd = 0; fd < 300; ++fd) {
      const long flags = body.call(SYS_fcntl, static_cast<unsigned>(fd), F_GETFD);
      EXPECT_EQ(flags, fd == Sandbox::kBlankSocket ? 0 : -EBADF) << fd;
    }
    const long socket = body.call(SYS_socket, AF_INET, SOCK_DGRAM, 0);
    ASSERT_GE(socket, 0);
    ifreq request{};
    request.ifr_ifindex = 1;
    body.write(g_scratch, request);
    ASSERT_EQ(body.call(SYS_ioctl, socket, SIOCGIFNAME, address_of(g_scratch)), 0);
    EXPECT_STREQ(body.read<ifreq>(g_scratch).ifr_name, "lo");
    ASSERT_EQ(body.call(SYS_ioctl, socket, SIOCGIFFLAGS, address_of(g_scratch)), 0);
    EXPECT_EQ(body.read<ifreq>(g_scratch).ifr_flags & IFF_UP, 0);
    for (int index = 2; index < 50; ++index) {
      request.ifr_ifindex = index;
      body.write(g_scratch, request);
      EXPECT_EQ(body.call(SYS_ioctl, socket, SIOCGIFNAME, address_of(g_scratch)), -ENODEV);
    }
  });
}

TEST_F(SandboxTest, it_carries_the_name_of_home) {
  as_guest([] {
    Sandbox sandbox = make();
    Seized body(blank_in(sandbox));
    ASSERT_EQ(body.call(SYS_uname, address_of(g_scratch)), 0);
    const auto names = body.read<utsname>(g_scratch);
    EXPECT_STREQ(names.nodename, "home-node");
    EXPECT_STREQ(names.domainname, "home.example");
  });
}

TEST_F(SandboxTest, its_clocks_continue_those_of_home) {
  for (const std::int64_t offset : {0LL, 987'654'321'123'456'789LL, -1'500'000'001LL}) {
    as_guest([offset] {
      SandboxSpec wanted = spec();
      wanted.monotonic_offset_ns = offset;
      wanted.boottime_offset_ns = offset + 5'000'000'000;
      Sandbox sandbox = make(wanted);
      Seized body(blank_in(sandbox));
      const auto expect_between = [&](clockid_t clock, std::int64_t ahead) {
        const std::int64_t before = clock_now(clock);
        ASSERT_EQ(body.call(SYS_clock_gettime, clock, address_of(g_scratch)), 0);
        const std::int64_t after = clock_now(clock);
        const std::int64_t inside = nanoseconds(body.read<timespec>(g_scratch));
        EXPECT_GE(inside, before + ahead);
        EXPECT_LE(inside, after + ahead);
      };
      expect_between(CLOCK_MONOTONIC, offset);
      expect_between(CLOCK_BOOTTIME, offset + 5'000'000'000);
      expect_between(CLOCK_REALTIME, 0);
    });
  }
}

TEST_F(SandboxTest, the_guest_reaches_its_memory_even_without_capabilities) {
  as_guest([] {
    Sandbox sandbox = make();
    const Status confined = confine_self();
    ASSERT_TRUE(confined) << confined.error().message();
    EXPECT_EQ(prctl(PR_GET_DUMPABLE), 0);
    const Sandbox::Blank blank = blank_in(sandbox);
    Seized body(blank);
    EXPECT_EQ(body.write(g_scratch, 4711), static_cast<long>(sizeof(int)));
    EXPECT_EQ(body.read<int>(g_scratch), 4711);
    EXPECT_LT(body.write(kReadOnly, 4711), 0);
    const int value = 815;
    const auto at = static_cast<off_t>(address_of(kReadOnly));
    EXPECT_EQ(pwrite(blank.mem.get(), &value, sizeof value, at), ssize_t{sizeof value});
    EXPECT_EQ(body.read<int>(kReadOnly), 815);
    EXPECT_EQ(kReadOnly[0], 7) << "the guest's own page";

    auto pages = PageMap::over(OwnedFd(dup(blank.pagemap.get())));
    ASSERT_TRUE(pages) << pages.error().message();
    const ForeignAddress page(address_of(kReadOnly));
    auto own = pages->pages_with_own_content({page, page + kPageSize});
    ASSERT_TRUE(own) << own.error().message();
    EXPECT_EQ(own->size(), 1u) << "written to, so no longer the file's";
  });
}

TEST_F(SandboxTest, a_descriptor_passed_by_the_guest_arrives_in_the_blank) {
  as_guest([] {
    Sandbox sandbox = make();
    const Sandbox::Blank blank = blank_in(sandbox);
    Seized body(blank);
    const OwnedFd memory(memfd_create("passed", MFD_CLOEXEC));
    ASSERT_EQ(write(memory.get(), "through", 7), 7);
    ASSERT_TRUE(blank.pass(memory));

    struct Frame {
      msghdr message;
      iovec part;
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
      char byte;
    };
    auto* const there = reinterpret_cast<Frame*>(g_scratch);
    Frame frame{};
    frame.part = {&there->byte, 1};
    frame.message.msg_iov = &there->part;
    frame.message.msg_iovlen = 1;
    frame.message.msg_control = there->control;
    frame.message.msg_controllen = sizeof frame.control;
    body.write(there, frame);
    ASSERT_EQ(body.call(SYS_recvmsg, Sandbox::kBlankSocket, address_of(&there->message), 0), 1);
    const auto received = body.read<Frame>(there);
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(reinterpret_cast<const cmsghdr*>(received.control)), sizeof fd);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(body.call(SYS_pread64, static_cast<unsigned>(fd), address_of(g_scratch), 7, 0), 7);
    EXPECT_EQ(body.read<char>(g_scratch + 4), 'u');
  });
}

TEST_F(SandboxTest, it_serves_jobs_with_unusual_ids) {
  const std::pair<std::uint32_t, std::uint32_t> ids[] = {
      {0, 0}, {0, 1000}, {1000, 0}, {1, 1}, {g_outer_uid, g_outer_uid}, {4294967294u, 65534}};
  for (const auto& [uid, gid] : ids) {
    as_guest([uid = uid, gid = gid] {
      SandboxSpec wanted = spec();
      wanted.job_uid = uid;
      wanted.job_gid = gid;
      Sandbox sandbox = make(wanted);
      const Sandbox::Blank blank = blank_in(sandbox);
      Seized body(blank);
      EXPECT_EQ(body.call(SYS_getuid), static_cast<long>(uid));
      EXPECT_EQ(body.call(SYS_getgid), static_cast<long>(gid));
      EXPECT_EQ(body.call(SYS_unshare, CLONE_NEWNS), -EPERM) << "root inside has no capability";
      EXPECT_EQ(body.call(SYS_kill, 1, SIGKILL), -EPERM);
      struct stat status;
      ASSERT_EQ(stat(("/proc/" + std::to_string(sandbox.process_group())).c_str(), &status), 0);
      EXPECT_NE(status.st_uid, g_outer_uid) << "init is not the body's user";
    });
  }
}

TEST_F(SandboxTest, it_refuses_what_cannot_be_in_one_line) {
  as_guest([] {
    SandboxSpec wanted = spec();
    wanted.outer_uid = g_outer_uid + 2;
    auto other = Sandbox::create(wanted);
    ASSERT_FALSE(other);
    const std::string mine = std::to_string(g_outer_uid);
    EXPECT_EQ(other.error().message(), "sandbox: the guest runs as uid " + mine + ", gid " + mine +
                                           ", not as " + std::to_string(g_outer_uid + 2));
    wanted = spec();
    wanted.job_uid = UINT32_MAX;
    EXPECT_FALSE(Sandbox::create(wanted));
    wanted = spec();
    wanted.monotonic_offset_ns = -clock_now(CLOCK_MONOTONIC) - 1'000'000'000;
    auto before_zero = Sandbox::create(wanted);
    ASSERT_FALSE(before_zero);
    EXPECT_EQ(before_zero.error().code, ERANGE);
    EXPECT_NE(before_zero.error().message().find("sandbox: set clock offsets: "),
              std::string::npos);
    wanted = spec();
    wanted.host_name = std::string(65, 'x');
    auto long_name = Sandbox::create(wanted);
    ASSERT_FALSE(long_name);
    EXPECT_EQ(long_name.error().message(), "sandbox: set host name: Invalid argument");
    Sandbox sandbox = make();
    (void)blank_in(sandbox);
    auto again = sandbox.make_blank(kPid);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().message(), "sandbox: make process 12345: clone3: File exists");
    EXPECT_FALSE(sandbox.make_blank(-1));
    EXPECT_TRUE(sandbox.make_blank(kPid + 1)) << "a refusal does no harm";
    EXPECT_EQ(usage().processes, 1 + 1 + 2) << "guest, init, two blanks: the failed ones are gone";
  });
}

TEST_F(SandboxTest, without_its_capabilities_the_guest_is_told_so) {
  as_guest([] {
    ASSERT_TRUE(confine_self());
    auto sandbox = Sandbox::create(spec());
    ASSERT_FALSE(sandbox);
    EXPECT_NE(sandbox.error().message().find("uid_map: Operation not permitted"), std::string::npos)
        << sandbox.error().message();
    EXPECT_EQ(usage().processes, 1) << "the guest, no init";
  });
}

TEST_F(SandboxTest, what_the_guest_does_with_signals_stays_with_the_guest) {
  as_guest([] {
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, [](int) {});
    // As the C library handles one of its own, which it would not let be reset either.
    constexpr int kSigcancel = 32;
    const KernelSigaction handled{address_of(kReadOnly), 0, 0, 0};
    ASSERT_EQ(syscall(SYS_rt_sigaction, kSigcancel, &handled, nullptr, sizeof(SignalMask)), 0);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, nullptr);
    Sandbox sandbox = make();
    const Sandbox::Blank blank = blank_in(sandbox);
    for (const char* set : {"SigBlk", "SigIgn", "SigCgt"}) {
      EXPECT_EQ(status_field(blank.pid, set), "0000000000000000") << set;
    }
    sigset_t after;
    sigprocmask(SIG_BLOCK, nullptr, &after);
    EXPECT_TRUE(sigismember(&after, SIGTERM) && !sigismember(&after, SIGINT));
  });
}

TEST_F(SandboxTest, after_destroy_nothing_is_left_though_everything_was_traced) {
  as_guest([] {
    const Usage before = usage();
    {
      Sandbox sandbox = make();
      std::vector<Sandbox::Blank> blanks;
      for (int i = 0; i < 5; ++i) blanks.push_back(blank_in(sandbox, kPid + i));
      for (const Sandbox::Blank& blank : blanks) {
        ptrace(PTRACE_SEIZE, blank.pid, nullptr, PTRACE_O_EXITKILL | PTRACE_O_TRACEEXIT);
      }
      ptrace(PTRACE_INTERRUPT, blanks[0].pid, nullptr, nullptr);
      EXPECT_EQ(usage().processes, before.processes + 6);
      sandbox.destroy();
      sandbox.destroy();
      EXPECT_EQ(waitpid(-1, nullptr, __WALL | WNOHANG), -1);
      EXPECT_EQ(errno, ECHILD);
    }
    const Usage after = usage();
    EXPECT_EQ(after.processes, before.processes);
    EXPECT_EQ(after.descriptors, before.descriptors);
  });
}

TEST_F(SandboxTest, destroy_reaps_traced_threads_and_forks_that_nobody_told_it_of) {
  as_guest([] {
    const Usage before = usage();
    Sandbox sandbox = make();
    const Sandbox::Blank blank = blank_in(sandbox);
    Seized body(blank);
    ASSERT_EQ(ptrace(PTRACE_SETOPTIONS, blank.pid, nullptr,
                     PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK),
              0);
    constexpr std::uint64_t kThread =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    // The new ones wait, traced, at their first instruction.
    for (int i = 0; i < 3; ++i) {
      EXPECT_GT(body.call(SYS_clone, kThread, address_of(g_scratch + sizeof g_scratch)), 1);
      EXPECT_GT(body.call(SYS_clone, SIGCHLD), 1);
    }
    EXPECT_EQ(usage().processes, before.processes + 2 + 3);
    EXPECT_EQ(status_field(blank.pid, "Threads"), "4");
    sandbox.destroy();
    EXPECT_EQ(waitpid(-1, nullptr, __WALL | WNOHANG), -1);
    EXPECT_EQ(usage().processes, before.processes);
  });
}

TEST_F(SandboxTest, destroy_reaps_nobody_elses_children) {
  as_guest([] {
    const pid_t other = fork();
    if (other == 0) _exit(42);
    Sandbox first = make();
    Sandbox second = make();
    const Sandbox::Blank of_first = blank_in(first), of_second = blank_in(second);
    ptrace(PTRACE_SEIZE, of_first.pid, nullptr, nullptr);
    ptrace(PTRACE_SEIZE, of_second.pid, nullptr, nullptr);
    syscall(SYS_pidfd_send_signal, of_second.pidfd.get(), SIGKILL, nullptr, 0);
    pollfd ended{of_second.pidfd.get(), POLLIN, 0};
    EXPECT_EQ(poll(&ended, 1, 5000), 1);
    first.destroy();
    int status = 0;
    EXPECT_EQ(waitpid(of_second.pid, &status, __WALL), of_second.pid);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(waitpid(other, &status, 0), other);
    EXPECT_EQ(WEXITSTATUS(status), 42);
    EXPECT_TRUE(second.make_blank(kPid)) << "the dead one's pid is free again";
  });
}

TEST_F(SandboxTest, init_can_be_watched_and_its_death_is_an_error_not_a_hang) {
  as_guest([] {
    Sandbox sandbox = make();
    (void)blank_in(sandbox);
    syscall(SYS_pidfd_send_signal, sandbox.init_pidfd().get(), SIGKILL, nullptr, 0);
    pollfd ended{sandbox.init_pidfd().get(), POLLIN, 0};
    EXPECT_EQ(poll(&ended, 1, 5000), 1);
    auto blank = sandbox.make_blank(kPid + 1);
    ASSERT_FALSE(blank);
    EXPECT_EQ(blank.error().message().find("sandbox: make process 12346: "), 0u);
  });
}

TEST_F(SandboxTest, a_guest_that_dies_takes_its_sandbox_along) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  OwnedFd from_guest(ends[0]), to_us(ends[1]);
  g_outer_uid += 2;
  const pid_t guest = fork();
  if (guest == 0) {
    if (!enter_guest_identity(g_outer_uid)) _exit(1);
    Sandbox sandbox = make();
    const Sandbox::Blank blank = blank_in(sandbox);
    ptrace(PTRACE_SEIZE, blank.pid, nullptr, nullptr);
    const pid_t pids[2] = {sandbox.process_group(), blank.pid};
    if (write(to_us.get(), pids, sizeof pids) < 0) _exit(1);
    while (true) pause();
  }
  to_us.reset();
  pid_t pids[2];
  ASSERT_EQ(read(from_guest.get(), pids, sizeof pids), ssize_t{sizeof pids});
  const OwnedFd init(static_cast<int>(syscall(SYS_pidfd_open, pids[0], 0)));
  const OwnedFd blank(static_cast<int>(syscall(SYS_pidfd_open, pids[1], 0)));
  ASSERT_TRUE(init && blank);
  kill(guest, SIGKILL);
  waitpid(guest, nullptr, 0);
  for (const OwnedFd* process : {&blank, &init}) {
    pollfd ended{process->get(), POLLIN, 0};
    EXPECT_EQ(poll(&ended, 1, 5000), 1);
  }
}

TEST_F(SandboxTest, many_in_a_row_leak_nothing_and_take_milliseconds) {
  as_guest([] {
    constexpr int kRounds = 200;
    using Clock = std::chrono::steady_clock;
    using Milliseconds = std::chrono::duration<double, std::milli>;
    std::vector<double> made, blanked, destroyed;
    const Usage before = usage();
    for (int i = 0; i < kRounds; ++i) {
      const auto start = Clock::now();
      Sandbox sandbox = make();
      const auto ready = Clock::now();
      const Sandbox::Blank blank = blank_in(sandbox, 100 + i);
      const auto blank_ready = Clock::now();
      ptrace(PTRACE_SEIZE, blank.pid, nullptr, nullptr);
      const auto end = Clock::now();
      sandbox.destroy();
      made.push_back(Milliseconds(ready - start).count());
      blanked.push_back(Milliseconds(blank_ready - ready).count());
      destroyed.push_back(Milliseconds(Clock::now() - end).count());
    }
    const Usage after = usage();
    EXPECT_EQ(after.descriptors, before.descriptors);
    EXPECT_EQ(after.processes, before.processes);
    for (auto* times : {&made, &blanked, &destroyed}) std::sort(times->begin(), times->end());
    std::printf("median ms: create %.2f, blank %.2f, destroy %.2f; worst %.2f, %.2f, %.2f\n",
                made[kRounds / 2], blanked[kRounds / 2], destroyed[kRounds / 2], made.back(),
                blanked.back(), destroyed.back());
    EXPECT_LT(made[kRounds / 2], 500);
  });
}

TEST_F(SandboxTest, the_guest_leaves_the_nodes_files) {
  char root[] = "/tmp/drover-root-XXXXXX";
  ASSERT_NE(mkdtemp(root), nullptr);
  g_outer_uid += 2;
  std::fflush(nullptr);
  const pid_t guest = fork();
  if (guest == 0) {
    EXPECT_TRUE(make_guest_root(root));
    EXPECT_TRUE(enter_guest_identity(g_outer_uid));
    Sandbox sandbox = make();
    EXPECT_TRUE(OwnedFd(open("/etc/passwd", O_RDONLY)));
    const Status entered = enter_guest_root(root);
    EXPECT_TRUE(entered) << entered.error().message();
    EXPECT_TRUE(confine_self());
    for (const char* path : {"/etc/passwd", "/tmp", "../../etc/passwd", "/proc/self/root/etc"})
      EXPECT_FALSE(OwnedFd(open(path, O_RDONLY))) << path;
    EXPECT_TRUE(OwnedFd(open("/proc/self/status", O_RDONLY)));
    EXPECT_NE(mkdir("/mine", 0700), 0);
    EXPECT_NE(chroot("/proc"), 0);
    blank_in(sandbox);
    sandbox.destroy();
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(guest, &status, 0), guest);
  EXPECT_EQ(status, 0) << "in the guest";
  EXPECT_EQ(rmdir(root), 0) << "nothing of it is mounted for others";
}

TEST_F(SandboxTest, the_identity_survives_the_exec_of_the_guest) {
  as_guest([] {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      dup2(ends[1], 1);
      execl("/bin/cat", "cat", "/proc/self/status", nullptr);
      _exit(127);
    }
    close(ends[1]);
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, n);
    waitpid(child, nullptr, 0);
    close(ends[0]);
    // CAP_SETGID is 6, CAP_SETUID 7, CAP_SYS_CHROOT 18.
    const std::string all = "\t00000000000400c0\n";
    for (const char* set : {"CapEff:", "CapPrm:", "CapBnd:", "CapAmb:", "CapInh:"}) {
      EXPECT_NE(text.find(set + all), std::string::npos) << set << "\n" << text;
    }
    const std::string uid = std::to_string(g_outer_uid);
    EXPECT_NE(text.find("Uid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid + "\n"),
              std::string::npos);
    EXPECT_NE(text.find("Groups:\t \n"), std::string::npos);
  });
}

}  // namespace
}  // namespace drover
