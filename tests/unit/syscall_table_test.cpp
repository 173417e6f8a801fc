#include "remote-syscall/syscall_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <linux/unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <csignal>
#include <ctime>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

namespace drover {
namespace {

constexpr std::int32_t kPid = 4711;

/// "#define __NR_read 0" of the system's header.
std::map<int, std::string> numbers_of_the_header() {
  std::map<int, std::string> numbers;
  for (const char* path :
       {"/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"}) {
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
      std::istringstream words(line);
      std::string define, name;
      int number = -1;
      if (words >> define >> name >> number && define == "#define" && name.starts_with("__NR_"))
        numbers[number] = name.substr(5);
    }
    if (!numbers.empty()) break;
  }
  return numbers;
}

// The prototypes of the calls that may be forwarded, written down from the kernel's
// declarations and not from the table: v is a value, p a pointer, c depends on an operation.
constexpr const char* kPrototypes = R"(
read vpv
write vpv
open pvv
close v
stat pp
fstat vp
lstat pp
poll pvv
lseek vvv
rt_sigaction vppv
rt_sigprocmask vppv
ioctl vvc
pread64 vpvv
pwrite64 vpvv
readv vpv
writev vpv
access pv
pipe p
select vpppp
dup v
dup2 vv
pause -
nanosleep pp
getitimer vp
alarm v
setitimer vpp
sendfile vvpv
socket vvv
connect vpv
accept vpp
sendto vpvvpv
recvfrom vpvvpp
sendmsg vpv
recvmsg vpv
shutdown vv
bind vpv
listen vv
getsockname vpp
getpeername vpp
socketpair vvvp
setsockopt vvvpv
getsockopt vvvpp
wait4 vpvp
kill vv
uname p
semget vvv
semop vpv
semctl vvvc
msgget vv
msgsnd vpvv
msgrcv vpvvv
msgctl vvc
fcntl vvc
flock vv
fsync v
fdatasync v
truncate pv
ftruncate vv
getdents vpv
getcwd pv
chdir p
fchdir v
rename pp
mkdir pv
rmdir p
creat pv
link pp
unlink p
symlink pp
readlink ppv
chmod pv
fchmod vv
chown pvv
fchown vvv
lchown pvv
umask v
getrlimit vp
getrusage vp
sysinfo p
times p
getuid -
syslog vpv
getgid -
setuid v
setgid v
geteuid -
getegid -
setpgid vv
getppid -
getpgrp -
setsid -
setreuid vv
setregid vv
getgroups vp
setresuid vvv
getresuid ppp
setresgid vvv
getresgid ppp
getpgid v
setfsuid v
setfsgid v
getsid v
capget pp
rt_sigpending pv
rt_sigtimedwait pppv
rt_sigqueueinfo vvp
rt_sigsuspend pv
utime pp
mknod pvv
personality v
ustat vp
statfs pp
fstatfs vp
getpriority vv
setpriority vvv
sched_setparam vp
sched_getparam vp
sched_setscheduler vvp
sched_getscheduler v
sched_get_priority_max v
sched_get_priority_min v
sched_rr_get_interval vp
mlock vv
munlock vv
mlockall v
munlockall -
prctl vcvvv
adjtimex p
setrlimit vp
chroot p
sync -
acct p
settimeofday pp
sethostname pv
setdomainname pv
readahead vvv
setxattr pppvv
lsetxattr pppvv
fsetxattr vppvv
getxattr pppv
lgetxattr pppv
fgetxattr vppv
listxattr ppv
llistxattr ppv
flistxattr vpv
removexattr pp
lremovexattr pp
fremovexattr vp
tkill vv
sched_setaffinity vvp
sched_getaffinity vvp
epoll_create v
getdents64 vpv
restart_syscall -
semtimedop vpvp
fadvise64 vvvv
timer_create vpp
timer_settime vvpp
timer_gettime vp
timer_getoverrun v
timer_delete v
clock_settime vp
clock_gettime vp
clock_getres vp
clock_nanosleep vvpp
epoll_wait vpvv
epoll_ctl vvvp
tgkill vvv
utimes pp
mq_open pvvp
mq_unlink p
mq_timedsend vpvvp
mq_timedreceive vpvpp
mq_getsetattr vpp
waitid vvpvp
add_key pppvv
request_key pppv
ioprio_set vvv
ioprio_get vv
inotify_init -
inotify_add_watch vpv
inotify_rm_watch vv
openat vpvv
mkdirat vpv
mknodat vpvv
fchownat vpvvv
futimesat vpp
newfstatat vppv
unlinkat vpv
renameat vpvp
linkat vpvpv
symlinkat pvp
readlinkat vppv
fchmodat vpv
faccessat vpv
pselect6 vppppp
ppoll pvppv
splice vpvpvv
tee vvvv
sync_file_range vvvv
utimensat vppv
epoll_pwait vpvvpv
signalfd vpv
timerfd_create vv
eventfd v
fallocate vvvv
timerfd_settime vvpp
timerfd_gettime vp
accept4 vppv
signalfd4 vpvv
eventfd2 vv
epoll_create1 v
dup3 vvv
pipe2 pv
inotify_init1 v
preadv vpvvv
pwritev vpvvv
rt_tgsigqueueinfo vvvp
recvmmsg vpvvp
fanotify_init vv
fanotify_mark vvvvp
prlimit64 vvpp
clock_adjtime vp
syncfs v
sendmmsg vpvv
kcmp vvvvv
sched_setattr vpv
sched_getattr vpvv
renameat2 vpvpv
memfd_create pv
membarrier vvv
mlock2 vvv
copy_file_range vpvpvv
preadv2 vpvvvv
pwritev2 vpvvvv
statx vpvvp
pidfd_send_signal vvpv
pidfd_open vv
close_range vvv
openat2 vppv
pidfd_getfd vvv
faccessat2 vpvv
epoll_pwait2 vpvppv
memfd_secret v
process_mrelease vv
cachestat vppv
fchmodat2 vpvv
statmount ppvv
listmount ppvv
listxattrat vpvpv
removexattrat vpvp
file_getattr vppvv
file_setattr vppvv
listns ppvv
)";

std::map<std::string, std::string> prototypes() {
  std::map<std::string, std::string> all;
  std::istringstream lines(kPrototypes);
  std::string name, arguments;
  while (lines >> name >> arguments) all[name] = arguments == "-" ? "" : arguments;
  return all;
}

CallClass class_of(const char* name, CallArguments arguments = {}) {
  return classify_call(syscall_number(name), arguments, kPid);
}

TEST(SyscallTable, HasEveryNumberOfTheSystemsHeader) {
  const auto numbers = numbers_of_the_header();
  ASSERT_GT(numbers.size(), 350u);
  for (const auto& [number, name] : numbers) EXPECT_EQ(syscall_name(number), name) << number;
}

TEST(SyscallTable, HasEveryNumberUpToTheNewestKernelKnown) {
  for (int number = 0; number <= 469; ++number) {
    const bool gap = 337 <= number && number <= 423;  // never given out on x86-64
    EXPECT_EQ(syscall_row(number).known(), !gap) << number;
  }
}

TEST(SyscallTable, UnknownNumbersComeHome) {
  for (int number : {-1, 400, 511, 512, 1 << 30, 0x40000000 + 39}) {
    EXPECT_EQ(classify_call(number, {}, kPid), CallClass::kComeHome) << number;
    EXPECT_EQ(syscall_name(number), "unknown");
  }
}

TEST(SyscallTable, MarshalsEveryPointerOfTheKernelsPrototypes) {
  const auto kernel = prototypes();
  for (int number = 0; number < kSyscallLimit; ++number) {
    const Syscall& row = syscall_row(number);
    if (!row.marshallable) continue;
    const auto found = kernel.find(std::string(row.name));
    ASSERT_NE(found, kernel.end()) << row.name << " has rules but no prototype here";
    ASSERT_EQ(row.arity, found->second.size()) << row.name;
    for (std::size_t i = 0; i < row.arity; ++i) {
      const ArgumentKind kind = row.arguments[i].kind;
      const char is = kind == ArgumentKind::kValue    ? 'v'
                      : kind == ArgumentKind::kChosen ? 'c'
                                                      : 'p';
      EXPECT_EQ(is, found->second[i]) << row.name << " argument " << i;
    }
  }
  for (const auto& [name, arguments] : kernel)
    EXPECT_TRUE(syscall_row(syscall_number(name)).marshallable) << name;
}

TEST(SyscallTable, WhatIsForwardedCanBeMarshalled) {
  for (int number = 0; number < kSyscallLimit; ++number) {
    const Syscall& row = syscall_row(number);
    // What runs in both places has messages of its own.
    bool forwarded = row.call_class == CallClass::kForwarded;
    for (const Exception& exception : row.exceptions)
      forwarded |= exception.call_class == CallClass::kForwarded;
    EXPECT_TRUE(!forwarded || row.marshallable) << row.name;
  }
}

TEST(SyscallTable, LengthsAreTakenFromValues) {
  for (int number = 0; number < kSyscallLimit; ++number) {
    const Syscall& row = syscall_row(number);
    for (std::size_t i = 0; i < row.arity; ++i) {
      const Argument& argument = row.arguments[i];
      if (argument.length.source == ArgumentLength::kFixed) continue;
      ASSERT_LT(argument.length.argument, row.arity) << row.name;
      const Argument& length = row.arguments[argument.length.argument];
      if (argument.kind == ArgumentKind::kValueResult) {
        EXPECT_EQ(length.kind, ArgumentKind::kInOut) << row.name;
        EXPECT_EQ(length.length.fixed, 4) << row.name;
      } else {
        EXPECT_EQ(length.kind, ArgumentKind::kValue) << row.name << " argument " << i;
      }
    }
  }
}

Effect effect_of(const char* name, CallArguments arguments = {}) {
  return effect_of_call(syscall_number(name), arguments);
}

// Reviewed one by one: what is added to the table's declaration is added here as well.
TEST(SyscallTable, TheseCallsAndNoOthersHaveNoEffect) {
  const std::set<std::string> always = {"stat",
                                        "fstat",
                                        "lstat",
                                        "access",
                                        "pause",
                                        "nanosleep",
                                        "getitimer",
                                        "getsockname",
                                        "getpeername",
                                        "uname",
                                        "getcwd",
                                        "readlink",
                                        "getrlimit",
                                        "getrusage",
                                        "sysinfo",
                                        "times",
                                        "getuid",
                                        "getgid",
                                        "geteuid",
                                        "getegid",
                                        "getppid",
                                        "getpgrp",
                                        "getgroups",
                                        "getresuid",
                                        "getresgid",
                                        "getpgid",
                                        "getsid",
                                        "capget",
                                        "rt_sigpending",
                                        "ustat",
                                        "statfs",
                                        "fstatfs",
                                        "getpriority",
                                        "sched_getparam",
                                        "sched_getscheduler",
                                        "sched_get_priority_max",
                                        "sched_get_priority_min",
                                        "sched_rr_get_interval",
                                        "getxattr",
                                        "lgetxattr",
                                        "fgetxattr",
                                        "listxattr",
                                        "llistxattr",
                                        "flistxattr",
                                        "sched_getaffinity",
                                        "restart_syscall",
                                        "timer_gettime",
                                        "timer_getoverrun",
                                        "clock_gettime",
                                        "clock_getres",
                                        "clock_nanosleep",
                                        "ioprio_get",
                                        "newfstatat",
                                        "readlinkat",
                                        "faccessat",
                                        "timerfd_gettime",
                                        "kcmp",
                                        "sched_getattr",
                                        "statx",
                                        "faccessat2",
                                        "cachestat",
                                        "statmount",
                                        "listmount",
                                        "listxattrat",
                                        "file_getattr"};
  const std::set<std::string> sometimes = {"poll",    "select", "pselect6",    "ppoll",
                                           "fcntl",   "prctl",  "personality", "prlimit64",
                                           "pread64", "preadv"};
  constexpr CallArguments kAllOnes = {~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL};
  for (int number = -1; number <= kSyscallLimit; ++number) {
    const std::string name(syscall_name(number));
    if (sometimes.count(name) > 0) continue;
    const Effect expected = always.count(name) > 0 ? Effect::kNone : Effect::kSome;
    EXPECT_EQ(effect_of_call(number, {}), expected) << number << " " << name;
    EXPECT_EQ(effect_of_call(number, kAllOnes), expected) << number << " " << name;
  }
}

TEST(SyscallTable, WhetherSomeCallsHaveAnEffectIsSaidByTheirArguments) {
  EXPECT_EQ(effect_of("pread64"), Effect::kNoneOnRegular);
  EXPECT_EQ(effect_of("preadv"), Effect::kNoneOnRegular);
  // Those that wait for nothing but time.
  EXPECT_EQ(effect_of("poll", {0, 0, 1000}), Effect::kNone);
  EXPECT_EQ(effect_of("poll", {4096, 1, 1000}), Effect::kSome);
  EXPECT_EQ(effect_of("ppoll", {0, 0, 4096}), Effect::kNone);
  EXPECT_EQ(effect_of("ppoll", {4096, 1, 4096}), Effect::kSome);
  EXPECT_EQ(effect_of("select", {0, 0, 0, 0, 4096}), Effect::kNone);
  EXPECT_EQ(effect_of("select", {1, 4096}), Effect::kSome);
  EXPECT_EQ(effect_of("pselect6", {0, 0, 0, 0, 4096}), Effect::kNone);
  EXPECT_EQ(effect_of("pselect6", {1, 4096}), Effect::kSome);
  EXPECT_EQ(effect_of("prlimit64", {0, RLIMIT_NOFILE, 0, 4096}), Effect::kNone);
  EXPECT_EQ(effect_of("prlimit64", {0, RLIMIT_NOFILE, 1ULL << 32, 0}), Effect::kSome);
  EXPECT_EQ(effect_of("personality", {0xffffffff}), Effect::kNone);
  EXPECT_EQ(effect_of("personality", {0}), Effect::kSome);
  for (std::uint64_t command : {F_GETFD, F_GETFL, F_GETLK, F_GETOWN})
    EXPECT_EQ(effect_of("fcntl", {1, command}), Effect::kNone) << command;
  for (std::uint64_t command : {F_DUPFD, F_SETFD, F_SETFL, F_SETLK, F_SETLKW, F_SETOWN, 1030, 1024})
    EXPECT_EQ(effect_of("fcntl", {1, command}), Effect::kSome) << command;
  for (std::uint64_t option : {PR_GET_NAME, PR_GET_DUMPABLE, PR_CAPBSET_READ, PR_GET_TIMERSLACK})
    EXPECT_EQ(effect_of("prctl", {option}), Effect::kNone) << option;
  for (std::uint64_t option : {PR_SET_NAME, PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, 0x53564d41})
    EXPECT_EQ(effect_of("prctl", {option}), Effect::kSome) << option;
}

TEST(SyscallTable, TheDocumentsLocalClassIsLocal) {
  for (const char* name :
       {"brk", "munmap", "mprotect", "mremap", "sigaltstack", "gettimeofday", "time", "sched_yield",
        "getcpu", "getrandom", "set_robust_list", "rseq", "gettid", "getpid"})
    EXPECT_EQ(class_of(name), CallClass::kLocal) << name;
  for (const char* name :
       {"execve", "execveat", "fork", "vfork", "ptrace", "io_uring_setup", "userfaultfd", "bpf",
        "perf_event_open", "seccomp", "process_vm_readv", "shmat", "unshare", "setns", "mount",
        "setuid", "vmsplice", "personality"})
    EXPECT_EQ(class_of(name), CallClass::kComeHome) << name;
  EXPECT_EQ(class_of("clone"), CallClass::kServed);
  EXPECT_EQ(class_of("clone3"), CallClass::kServed);
  EXPECT_EQ(class_of("rt_sigprocmask"), CallClass::kBoth);
  EXPECT_EQ(class_of("rt_sigaction"), CallClass::kBoth);
  EXPECT_EQ(class_of("rt_sigreturn"), CallClass::kBoth);
  EXPECT_EQ(class_of("set_tid_address"), CallClass::kBoth);
  EXPECT_EQ(class_of("sched_setaffinity"), CallClass::kFollowed);
  EXPECT_EQ(class_of("exit_group"), CallClass::kExit);
}

TEST(SyscallTable, OnlyAnonymousPrivateMemoryIsMappedLocally) {
  const auto map = [](std::uint64_t flags) { return class_of("mmap", {0, 4096, 3, flags}); };
  EXPECT_EQ(map(MAP_PRIVATE | MAP_ANONYMOUS), CallClass::kLocal);
  EXPECT_EQ(map(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE), CallClass::kLocal);
  EXPECT_EQ(map(MAP_SHARED | MAP_ANONYMOUS), CallClass::kServed);
  EXPECT_EQ(map(MAP_PRIVATE), CallClass::kServed);
  EXPECT_EQ(map(MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB), CallClass::kServed);
}

TEST(SyscallTable, WallClocksAreLocalAndCpuClocksAreNot) {
  const auto clock = [](int id) {
    return class_of("clock_gettime", {static_cast<std::uint64_t>(id)});
  };
  for (int id : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_MONOTONIC_RAW})
    EXPECT_EQ(clock(id), CallClass::kLocal) << id;
  EXPECT_EQ(clock(CLOCK_PROCESS_CPUTIME_ID), CallClass::kFollowed);
  EXPECT_EQ(clock(~kPid << 3 | 2), CallClass::kFollowed);
  EXPECT_EQ(clock(~5 << 3 | 3), CallClass::kForwarded) << "a clock device's descriptor";
  EXPECT_EQ(clock(CLOCK_REALTIME_ALARM), CallClass::kForwarded);
}

TEST(SyscallTable, SignalsAreForwarded) {
  const auto kill = [](int pid, int signal) {
    return class_of("kill", {static_cast<std::uint64_t>(pid), static_cast<std::uint64_t>(signal)});
  };
  EXPECT_EQ(kill(kPid, 0), CallClass::kLocal);
  EXPECT_EQ(kill(kPid, SIGABRT), CallClass::kForwarded);
  EXPECT_EQ(kill(kPid, SIGUSR1), CallClass::kForwarded);
  EXPECT_EQ(kill(kPid, SIGSTOP), CallClass::kForwarded);
  EXPECT_EQ(kill(kPid + 1, SIGABRT), CallClass::kForwarded);
  EXPECT_EQ(kill(0, SIGABRT), CallClass::kForwarded);
  EXPECT_EQ(class_of("tgkill", {kPid, kPid + 1, 0}), CallClass::kLocal);
  for (const std::uint64_t signal : {SIGSEGV, SIGUSR1, 32, 33})
    EXPECT_EQ(class_of("tgkill", {kPid, kPid + 1, signal}), CallClass::kForwarded)
        << "another thread's calls are in P";
  EXPECT_EQ(class_of("tgkill", {kPid + 1, kPid + 1, SIGABRT}), CallClass::kForwarded);
}

TEST(SyscallTable, FutexesAreLocalButForPriorityInheritance) {
  EXPECT_EQ(class_of("futex", {0, FUTEX_WAIT_PRIVATE}), CallClass::kLocal);
  EXPECT_EQ(class_of("futex", {0, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME}), CallClass::kLocal);
  EXPECT_EQ(class_of("futex", {0, FUTEX_LOCK_PI}), CallClass::kComeHome);
}

TEST(SyscallTable, TheBodyFollowsTheLimitsThatConcernIt) {
  EXPECT_EQ(class_of("setrlimit", {RLIMIT_STACK, 4096}), CallClass::kFollowed);
  EXPECT_EQ(class_of("setrlimit", {RLIMIT_NOFILE, 4096}), CallClass::kForwarded);
  EXPECT_EQ(class_of("prlimit64", {0, RLIMIT_AS, std::uint64_t{1} << 40, 0}), CallClass::kFollowed);
  EXPECT_EQ(class_of("prlimit64", {0, RLIMIT_AS, 0, 4096}), CallClass::kForwarded);
}

const Argument* chosen(const char* name, std::size_t index, CallArguments arguments) {
  static Argument storage;
  return resolve_argument(syscall_row(syscall_number(name)), index, arguments, storage);
}

TEST(SyscallTable, FcntlsArgumentFollowsItsCommand) {
  EXPECT_EQ(chosen("fcntl", 2, {3, F_GETFL})->kind, ArgumentKind::kValue);
  EXPECT_EQ(chosen("fcntl", 2, {3, F_SETLKW})->kind, ArgumentKind::kIn);
  EXPECT_EQ(chosen("fcntl", 2, {3, F_OFD_GETLK})->kind, ArgumentKind::kInOut);
  EXPECT_EQ(chosen("fcntl", 2, {3, F_GETOWN_EX})->kind, ArgumentKind::kOut);
  EXPECT_EQ(chosen("fcntl", 2, {3, 77777}), nullptr);
}

TEST(SyscallTable, IoctlsArgumentFollowsItsRequest) {
  EXPECT_EQ(chosen("ioctl", 2, {0, TCGETS})->length.fixed, 36);
  EXPECT_EQ(chosen("ioctl", 2, {0, TIOCGWINSZ})->kind, ArgumentKind::kOut);
  EXPECT_EQ(chosen("ioctl", 2, {0, FIONBIO})->kind, ArgumentKind::kIn);
  // Said by the number itself.
  EXPECT_EQ(chosen("ioctl", 2, {0, _IOW('T', 0x2b, char[44])})->kind, ArgumentKind::kIn);
  EXPECT_EQ(chosen("ioctl", 2, {0, _IOW('T', 0x2b, char[44])})->length.fixed, 44);
  EXPECT_EQ(chosen("ioctl", 2, {0, TIOCGPTN})->kind, ArgumentKind::kInOut);
  // Structures of an unknown family may hold pointers.
  EXPECT_EQ(chosen("ioctl", 2, {0, _IOWR('d', 1, char[64])}), nullptr);
  EXPECT_EQ(chosen("ioctl", 2, {0, SIOCGIFCONF}), nullptr);
}

TEST(SyscallTable, PrctlsThatConcernTheBodyComeHome) {
  EXPECT_EQ(chosen("prctl", 1, {PR_SET_NAME})->kind, ArgumentKind::kString);
  EXPECT_EQ(chosen("prctl", 1, {PR_SET_DUMPABLE}), nullptr);
  EXPECT_EQ(chosen("prctl", 1, {PR_SET_SECCOMP}), nullptr);
  EXPECT_EQ(chosen("prctl", 1, {PR_SET_MM}), nullptr);
}

}  // namespace
}  // namespace drover
