/* covers: calls=clock_nanosleep,prlimit64 kind=forwarded; ends=signal:SIGABRT; moves=away;
   breaks-when: abort() does not end the program by SIGABRT, as its parent sees it */
#include <sys/resource.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "exit_abort");
  conform_ready();
  while (conform_next()) MUST(setrlimit(RLIMIT_CORE, &(struct rlimit){0}));
  conform_ok();
  if (seen(1)) abort();
  return 0;
}
