/* covers: calls=clock_nanosleep kind=forwarded; ends=signal:SIGQUIT; breaks-when: a program that
   would leave a core (RLIMIT_CORE > 0: it comes home for it) does not die of its signal, as its
   parent sees it */
#include <sys/resource.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "exit_core_limit");
  conform_ready();
  // Too small for any core: it is not written, but the kernel and Drover have to go that way.
  while (conform_next())
    MUST(setrlimit(RLIMIT_CORE, &(struct rlimit){.rlim_cur = 1, .rlim_max = 1}));
  conform_ok();
  if (seen(1)) raise(SIGQUIT);
  return 0;
}
