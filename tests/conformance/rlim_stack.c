/* covers: calls=setrlimit,prlimit64 kind=forwarded; breaks-when: the stack grows further than its
   limit allows, or less far */
#include <setjmp.h>
#include <sys/auxv.h>
#include <sys/resource.h>

#include "conform.h"

static sigjmp_buf out;
static char* volatile at;

static void fault(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  if ((char*)info->si_addr != at) _exit(3);
  siglongjmp(out, 1);
}

// Touches page after page below, and returns the last one that was there.
static char* lowest(void) {
  at = (char*)((uintptr_t)__builtin_frame_address(0) / kPage * kPage);
  if (sigsetjmp(out, 1) == 0)
    for (;; at -= kPage) *(volatile char*)at = 1;
  return at + kPage;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "rlim_stack");
  static char other_stack[65536];
  stack_t alternate = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
  MUST(sigaltstack(&alternate, NULL));
  on_signal(SIGSEGV, fault, SA_ONSTACK);
  // The last thing on the stack is the program's name, and 8 bytes of nothing.
  const char* name = (const char*)getauxval(AT_EXECFN);
  uintptr_t end = ((uintptr_t)name + strlen(name) + 1 + 8 + kPage - 1) / kPage * kPage;
  struct rlimit first;
  MUST(getrlimit(RLIMIT_STACK, &first));
  conform_ready();
  while (conform_next()) {
    // What has grown stays: more in every round.
    rlim_t size = 512 * 1024 + (rlim_t)conform.round * 4 * kPage;
    struct rlimit limit = {.rlim_cur = size, .rlim_max = first.rlim_max}, got;
    MUST(syscall(SYS_setrlimit, RLIMIT_STACK, &limit));
    char* last = lowest();
    CHECK(seen((long long)(end - (uintptr_t)last)) == (long long)size, "it has grown to %ld of %ld",
          (long)(end - (uintptr_t)last), (long)size);
    MUST(getrlimit(RLIMIT_STACK, &got));
    CHECK(got.rlim_cur == size && got.rlim_max == first.rlim_max, "its limit");
  }
  MUST(setrlimit(RLIMIT_STACK, &first));
  return conform_end();
}
