/* covers: calls=clone kind=forwarded; breaks-when: a thread that is made by clone(2) itself, as
   run-time systems do, begins with other registers, another stack or another mask than the kernel
   gives it, or its maker goes on with others */
#include <linux/futex.h>
#include <sys/mman.h>

#include "threads.h"

enum { kStack = 64 * 1024, kAtOnce = 3 };

// What a new thread finds, written by code that uses neither a stack nor thread-local storage.
struct found {
  uint64_t kept[4];  // rbp, r12, r13, r14
  uint64_t result, stack, mask;
  uint32_t own_id, pad;
  uint32_t cleared_id;  // by the kernel at its end
};

// Gives the thread's id; 1 if its own registers are others afterwards.
int64_t raw_clone(uint64_t flags, void* stack, uint32_t* told, uint32_t* cleared, struct found*);
asm("raw_clone:\n"
    "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "  mov %rcx, %r10\n"
    "  mov %r8, %rbx\n"
    "  mov $0x1234567812345678, %rbp\n"
    "  mov $2, %r12; mov $3, %r13; mov $4, %r14\n"
    "  mov %rsp, %r15\n"
    "  mov $56, %eax\n"
    "  syscall\n"
    "  test %rax, %rax\n"
    "  jz 1f\n"
    "  cmp $2, %r12; jne 2f\n"
    "  cmp $3, %r13; jne 2f\n"
    "  cmp $4, %r14; jne 2f\n"
    "  cmp %rsp, %r15; je 3f\n"
    "2: mov $1, %eax\n"
    "3: pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "  ret\n"
    "1: mov %rbp, (%rbx)\n"
    "  mov %r12, 8(%rbx); mov %r13, 16(%rbx); mov %r14, 24(%rbx)\n"
    "  mov %rax, 32(%rbx); mov %rsp, 40(%rbx)\n"
    "  mov $14, %eax; xor %edi, %edi; xor %esi, %esi\n"  // rt_sigprocmask
    "  lea 48(%rbx), %rdx; mov $8, %r10d\n"
    "  syscall\n"
    "  mov $186, %eax\n"  // gettid
    "  syscall\n"
    "  mov %eax, 56(%rbx)\n"
    "  mov $60, %eax; xor %edi, %edi\n"  // exit
    "  syscall\n"
    "  ud2\n");

static void await_end(uint32_t* id) {
  struct timespec limit = spec_of(kLate);
  for (uint32_t value; (value = __atomic_load_n(id, __ATOMIC_ACQUIRE)) != 0;) {
    long result = syscall(SYS_futex, id, FUTEX_WAIT, value, &limit, NULL, 0);
    CHECK(result == 0 || errno == EAGAIN || errno == EINTR, "thread %u does not end", value);
  }
}

static int64_t make(void* stack, uint32_t* told, struct found* found) {
  uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                   CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID;
  return raw_clone(flags, stack, told, &found->cleared_id, found);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "thr_born_raw");
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGRTMIN + 1);
  WORKS(pthread_sigmask(SIG_BLOCK, &set, NULL));
  uint64_t mask = 0;
  MUST(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask));
  char* stacks =
      mmap(NULL, kAtOnce * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(stacks != MAP_FAILED, "mmap");
  conform_ready();
  while (conform_next()) {
    struct found found[kAtOnce] = {0};
    int64_t ids[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) {
      uint32_t told = 0;
      found[i].cleared_id = ~0U;
      ids[i] = make(stacks + (i + 1) * kStack, &told, &found[i]);
      CHECK(ids[i] > 1, "clone gave %ld", (long)ids[i]);
      CHECK(told == (uint32_t)ids[i], "it was told %u, not %ld", told, (long)ids[i]);
    }
    for (int i = 0; i < kAtOnce; ++i) {
      await_end(&found[i].cleared_id);
      CHECK(seen(found[i].own_id) == ids[i], "its id is %u", found[i].own_id);
      CHECK(found[i].kept[0] == 0x1234567812345678 && found[i].kept[1] == 2 &&
                found[i].kept[2] == 3 && found[i].kept[3] == 4,
            "its registers");
      CHECK(found[i].result == 0, "clone gave it %lu", (unsigned long)found[i].result);
      CHECK(found[i].stack == (uint64_t)(stacks + (i + 1) * kStack), "its stack");
      CHECK(found[i].mask == mask, "its mask is %lx", (unsigned long)found[i].mask);
    }
  }
  return conform_end();
}
