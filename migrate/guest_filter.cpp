// What system calls a guest may make once its body is built: confine_self of migrate/sandbox.h.
// (Documentation/userspace-api/seccomp_filter.rst)
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <iterator>
#include <vector>

#include "migrate/sandbox.h"

namespace drover {
namespace {

// Talking over sockets that it has, holding its body, and running. It opens files only to read
// them (there is nothing but /proc: enter_guest_root), maps no code, starts nothing, connects
// nowhere.
constexpr int kAllowed[] = {
    // descriptors and sockets that are there
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_close, SYS_fcntl,
    SYS_lseek, SYS_fstat, SYS_newfstatat, SYS_poll, SYS_ppoll, SYS_recvfrom, SYS_recvmsg,
    SYS_sendto, SYS_sendmsg, SYS_shutdown, SYS_getsockopt, SYS_setsockopt, SYS_ioctl, SYS_signalfd4,
    // the body
    SYS_ptrace, SYS_wait4, SYS_waitid, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kill,
    SYS_tgkill, SYS_tkill, SYS_pidfd_send_signal, SYS_prlimit64, SYS_timer_create,
    SYS_timer_settime, SYS_timer_delete, SYS_setpriority, SYS_sched_setscheduler,
    SYS_sched_setaffinity, SYS_getpgid, SYS_get_robust_list,
    // itself
    SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex, SYS_rt_sigprocmask, SYS_rt_sigaction,
    SYS_rt_sigreturn, SYS_rt_sigtimedwait, SYS_sigaltstack, SYS_restart_syscall, SYS_getpid,
    SYS_gettid, SYS_getuid, SYS_setitimer, SYS_getrandom, SYS_sched_yield, SYS_clock_gettime,
    SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_exit,
    SYS_exit_group};

constexpr std::uint32_t kNumber = offsetof(seccomp_data, nr);
constexpr std::uint32_t kArch = offsetof(seccomp_data, arch);
constexpr std::uint32_t argument(int n) {
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8U * static_cast<unsigned>(n));
}
constexpr std::uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;

constexpr sock_filter load(std::uint32_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset);
}
constexpr sock_filter give(std::uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }
constexpr sock_filter unless_equal_skip(std::uint32_t value, std::uint8_t n) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, n);
}

/// The call is allowed only without these bits in an argument.
void allow_without(std::vector<sock_filter>& code, int number, int n, std::uint32_t bits) {
  const sock_filter rule[] = {unless_equal_skip(static_cast<std::uint32_t>(number), 4),
                              load(argument(n)), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0),
                              give(SECCOMP_RET_ALLOW), give(kRefuse)};
  code.insert(code.end(), std::begin(rule), std::end(rule));
}

std::vector<sock_filter> guest_filter() {
  std::vector<sock_filter> code = {load(kArch), unless_equal_skip(AUDIT_ARCH_X86_64, 1),
                                   BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
                                   give(SECCOMP_RET_KILL_PROCESS), load(kNumber)};
  for (const int number : kAllowed) {
    code.push_back(unless_equal_skip(static_cast<std::uint32_t>(number), 1));
    code.push_back(give(SECCOMP_RET_ALLOW));
  }
  constexpr std::uint32_t kWriting = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_PATH;
  allow_without(code, SYS_openat, 2, kWriting);
  allow_without(code, SYS_mmap, 2, PROT_EXEC);
  allow_without(code, SYS_mprotect, 2, PROT_EXEC);
  code.push_back(give(kRefuse));
  return code;
}

}  // namespace

Status filter_self() {
  std::vector<sock_filter> code = guest_filter();
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
    return errno_error("guest: install its filter");
  }
  return {};
}

}  // namespace drover
