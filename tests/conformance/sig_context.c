/* covers: calls=rt_sigreturn kind=local; calls=clock_nanosleep kind=forwarded; breaks-when: a
   handler's context is not the interrupted state, or what it changes there does not take effect */
#include <ucontext.h>

#include "conform.h"

static volatile uint64_t rbx_seen;
static volatile uint32_t xmm_seen;

static void handler(int signo, siginfo_t* info, void* raw) {
  (void)signo, (void)info;
  ucontext_t* context = raw;
  rbx_seen = (uint64_t)context->uc_mcontext.gregs[REG_RBX];
  xmm_seen = context->uc_mcontext.fpregs->_xmm[5].element[0];
  // A move while it runs moves the saved state as well.
  pause_ms(4);
  context->uc_mcontext.gregs[REG_RBX] += 1000;
  context->uc_mcontext.fpregs->_xmm[5].element[0] += 7;
  sigaddset(&context->uc_sigmask, SIGUSR2);
}

// Traps with these values in rbx and xmm5 and returns what is there afterwards.
static void trap(uint64_t* rbx, uint32_t* xmm5) {
  uint64_t value = *rbx;
  uint32_t number = *xmm5;
  __asm__ volatile(
      "movd %[number],%%xmm5\n"
      "xchg %[value],%%rbx\n"
      "int3\n"
      "xchg %[value],%%rbx\n"
      "movd %%xmm5,%[number]\n"
      : [value] "+a"(value), [number] "+c"(number)
      :
      : "xmm5", "memory");
  *rbx = value;
  *xmm5 = number;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_context");
  on_signal(SIGTRAP, handler, 0);
  sigset_t set, got;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  conform_ready();
  while (conform_next()) {
    uint64_t rbx = 0xabcdef0000000000ULL + (uint64_t)conform.round;
    uint32_t xmm5 = 0x50000000u + (uint32_t)conform.round;
    uint64_t rbx_before = rbx;
    uint32_t xmm5_before = xmm5;
    trap(&rbx, &xmm5);
    CHECK(seen((long long)rbx_seen) == (long long)rbx_before, "rbx in the context");
    CHECK(xmm_seen == xmm5_before, "xmm5 in the context");
    CHECK(rbx == rbx_before + 1000, "rbx after the handler");
    CHECK(xmm5 == xmm5_before + 7, "xmm5 after the handler");
    MUST(sigprocmask(SIG_UNBLOCK, &set, &got));
    CHECK(sigismember(&got, SIGUSR2) == 1, "the mask after the handler");
  }
  return conform_end();
}
