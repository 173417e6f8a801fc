/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: a move inside a restartable sequence
   lets it commit instead of sending it to its abort handler */
#include <sys/rseq.h>

#include "conform.h"

// Runs a long restartable sequence that adds 1 to *counter in its last instruction.
// Returns 0: committed; 1: aborted; 2: reached the commit although the kernel had forgotten it.
static int add_in_sequence(struct rseq* rseq, uint64_t* counter, uint64_t loops) {
  uint64_t* volatile target = counter;
  int result;
  __asm__ volatile(
      ".pushsection __rseq_cs,\"aw\"\n"
      ".balign 32\n"
      "77:\n.long 0,0\n.quad 1f,2f-1f,4f\n"
      ".popsection\n"
      "lea 77b(%%rip),%%rax\n"
      "mov %%rax,%[cs]\n"
      "1:\n"
      "mov %[loops],%%rcx\n"
      "3:\n"
      "dec %%rcx\n"
      "jnz 3b\n"
      "mov $2,%[result]\n"
      "cmp %%rax,%[cs]\n"
      "jne 5f\n"
      "xor %[result],%[result]\n"
      "addq $1,(%[target])\n"
      "2:\n"
      "jmp 5f\n"
      // Before an abort handler the kernel wants the registered signature (RSEQ_SIG).
      ".byte 0x0f,0xb9,0x3d\n.long 0x53053053\n"
      "4:\n"
      "mov $1,%[result]\n"
      "5:\n"
      "movq $0,%[cs]\n"
      : [result] "=&r"(result), [cs] "+m"(rseq->rseq_cs)
      : [target] "r"(target), [loops] "r"(loops)
      : "rax", "rcx", "memory", "cc");
  return result;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "rseq_cs");
  struct rseq* rseq = (struct rseq*)((char*)__builtin_thread_pointer() + __rseq_offset);
  bool registered = __rseq_size != 0;
  uint64_t counter = 0, commits = 0;
  conform_ready();
  while (conform_next()) {
    // Most of the time is spent inside; each takes about half a millisecond.
    for (int n = 0; n < 16 && registered; ++n) {
      int result = add_in_sequence(rseq, &counter, 1000000);
      CHECK(result != 2, "a sequence went on after it was interrupted");
      commits += result == 0;
    }
    CHECK(seen((long long)counter) == (long long)commits, "%llu commits but %llu additions",
          (unsigned long long)commits, (unsigned long long)counter);
  }
  return conform_end();
}
