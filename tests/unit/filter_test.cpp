#include "remote-syscall/filter.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <ctime>
#include <random>

#include "common/owned_fd.h"
#include "remote-syscall/syscall_table.h"

namespace drover {
namespace {

constexpr std::int32_t kPid = 4711;
constexpr ForeignAddress kOurs(0x7f0012345002);

/// Executes a classic BPF program as the kernel does; also counts the instructions.
std::uint32_t run(const std::vector<sock_filter>& program, const seccomp_data& data,
                  std::size_t* steps = nullptr) {
  std::uint32_t a = 0;
  std::size_t count = 0;
  for (std::size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& i = program[pc];
    ++count;
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        EXPECT_LE(i.k + 4, sizeof data);
        std::memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, 4);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= i.k;
        break;
      // BPF_JA and BPF_K are both 0. NOLINTNEXTLINE(misc-redundant-expression)
      case BPF_JMP | BPF_JA | BPF_K:
        pc += i.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        pc += a == i.k ? i.jt : i.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        pc += a >= i.k ? i.jt : i.jf;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        pc += a > i.k ? i.jt : i.jf;
        break;
      case BPF_RET | BPF_K:
        if (steps) *steps = count;
        return i.k;
      default:
        ADD_FAILURE() << "instruction " << i.code;
        return 0;
    }
  }
  ADD_FAILURE() << "ran off the end";
  return 0;
}

seccomp_data call(int number, const CallArguments& arguments, std::uint32_t arch) {
  seccomp_data data{};
  data.nr = number;
  data.arch = arch;
  std::copy(arguments.begin(), arguments.end(), data.args);
  return data;
}

std::uint32_t verdict(int number, const CallArguments& arguments) {
  return classify_call(number, arguments, kPid) == CallClass::kLocal ? SECCOMP_RET_ALLOW
                                                                     : SECCOMP_RET_USER_NOTIF;
}

TEST(Filter, SaysWhatTheTableSays) {
  const auto program = build_filter(kPid, kOurs);
  std::mt19937_64 random(1);
  for (int number = -1; number < 1200; ++number) {
    const Syscall& row = syscall_row(number);
    for (int round = 0; round < 300; ++round) {
      CallArguments arguments;
      for (std::uint64_t& argument : arguments) {
        const std::uint64_t any[] = {0,
                                     random() % 70,
                                     random() % 70,
                                     static_cast<std::uint64_t>(kPid),
                                     0x1000 + random() % 40,
                                     std::uint64_t{1} << random() % 64,
                                     random(),
                                     MAP_PRIVATE | MAP_ANONYMOUS | (random() & 0xffff00)};
        argument = any[random() % std::size(any)];
      }
      // The values on both sides of each of the row's own conditions.
      for (const Exception& exception : row.exceptions)
        for (const Condition& condition : exception.all())
          if (random() % 2)
            arguments[condition.argument] =
                condition.test == Condition::kOwnPid
                    ? static_cast<std::uint64_t>(kPid)
                    : (random() % 2 ? condition.low : condition.high) + random() % 3 - 1;
      ASSERT_EQ(run(program, call(number, arguments, AUDIT_ARCH_X86_64)),
                verdict(number, arguments))
          << syscall_name(number) << " " << number;
    }
  }
}

TEST(Filter, NothingOfAnotherArchitectureIsLocal) {
  const auto program = build_filter(kPid, kOurs);
  for (int number = 0; number < 600; ++number) {
    EXPECT_EQ(run(program, call(number, {}, AUDIT_ARCH_I386)), SECCOMP_RET_USER_NOTIF);
    EXPECT_EQ(run(program, call(number | 0x40000000, {}, AUDIT_ARCH_X86_64)),
              SECCOMP_RET_USER_NOTIF);
  }
}

TEST(Filter, TheGuestsOwnCallsAreAllowedFromTheirPlaceAlone) {
  const auto program = build_filter(kPid, kOurs);
  for (int number = 0; number < 600; ++number) {
    seccomp_data data = call(number, {}, AUDIT_ARCH_X86_64);
    data.instruction_pointer = kOurs.value();
    const bool allowed = number == SYS_clone3 || number == SYS_close;
    EXPECT_EQ(run(program, data), allowed ? SECCOMP_RET_ALLOW : verdict(number, {}))
        << syscall_name(number);
    if (!allowed) continue;
    for (const std::uint64_t other : {0x1ULL, 0x100000000ULL}) {
      data.instruction_pointer = kOurs.value() ^ other;
      EXPECT_EQ(run(program, data), SECCOMP_RET_USER_NOTIF) << syscall_name(number);
    }
  }
}

TEST(Filter, LocalCallsAreDecidedInFewSteps) {
  const auto program = build_filter(kPid, kOurs);
  EXPECT_LE(program.size(), static_cast<std::size_t>(BPF_MAXINSNS));
  for (int number = 0; number < kSyscallLimit; ++number) {
    if (syscall_row(number).call_class != CallClass::kLocal) continue;
    std::size_t steps = 0;
    EXPECT_EQ(run(program, call(number, {}, AUDIT_ARCH_X86_64), &steps), SECCOMP_RET_ALLOW);
    EXPECT_LE(steps, 16u) << syscall_name(number);
  }
}

/// What the confined child did, in memory shared with it.
struct Witness {
  std::atomic<int> listener;
  std::atomic<int> step;
  std::atomic<long> forwarded;
  std::atomic<bool> mapped, clock, futex;
};

[[noreturn]] void confined_child(Witness& witness) {
  const auto program = build_filter(static_cast<std::int32_t>(::getpid()), kOurs);
  const sock_fprog filter{static_cast<unsigned short>(program.size()),
                          const_cast<sock_filter*>(program.data())};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  witness.listener = static_cast<int>(
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter));
  // From here on, whatever is not local waits for the listener.
  void* memory =
      ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  witness.mapped = memory != MAP_FAILED && ::munmap(memory, 1 << 20) == 0;
  timespec now;
  witness.clock = ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) == 0 && now.tv_sec >= 0;
  int word = 1;
  witness.futex = ::syscall(SYS_futex, &word, 129 /* FUTEX_WAKE_PRIVATE */, 1) == 0;
  witness.step = 1;
  witness.forwarded = ::syscall(SYS_getppid);
  witness.step = 2;
  __builtin_trap();  // a fault that no sanitizer reports: it could not say a word
}

TEST(Filter, TheKernelTakesItAndNotifiesOnlyWhatIsNotLocal) {
  auto* witness = new (::mmap(nullptr, sizeof(Witness), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Witness{};
  witness->listener = -2;
  const pid_t child = ::fork();
  if (child == 0) confined_child(*witness);
  for (int i = 0; i < 5000 && witness->listener == -2; ++i) ::usleep(1000);
  ASSERT_GE(witness->listener.load(), 0) << "the filter was refused";

  const OwnedFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  const OwnedFd listener(
      static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), witness->listener.load(), 0)));
  ASSERT_TRUE(listener.valid());
  pollfd waiting{listener.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&waiting, 1, 5000), 1);
  seccomp_notif notification{};
  ASSERT_EQ(::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_RECV, &notification), 0);
  EXPECT_EQ(notification.data.nr, SYS_getppid) << "the first call that was not local";
  EXPECT_EQ(witness->step.load(), 1);
  seccomp_notif_resp response{};
  response.id = notification.id;
  response.val = 424242;
  ASSERT_EQ(::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_SEND, &response), 0);

  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL);
  EXPECT_TRUE(witness->mapped && witness->clock && witness->futex);
  EXPECT_EQ(witness->forwarded.load(), 424242);
  EXPECT_EQ(witness->step.load(), 2);
  ::munmap(witness, sizeof(Witness));
}

}  // namespace
}  // namespace drover
