/* covers: calls=clock_nanosleep,prlimit64 kind=forwarded; ends=signal:SIGSEGV; moves=away;
   breaks-when: a program that nobody stops from a wild write does not die of SIGSEGV, as its parent
   sees it */
#include <sys/resource.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "exit_segv");
  conform_ready();
  char* at = MUST(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  while (conform_next()) MUST(setrlimit(RLIMIT_CORE, &(struct rlimit){0}));
  conform_ok();
  if (seen(1)) *(volatile char*)at = 1;
  return 0;
}
