/* covers: calls=clock_nanosleep kind=forwarded; ends=signal:SIGTERM; moves=away; breaks-when: the
   parent does not see that the program died of the SIGTERM that it sent itself */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "exit_sigterm");
  conform_ready();
  while (conform_next()) spin_ms(3);
  conform_ok();
  if (seen(1)) kill(getpid(), SIGTERM);
  return 0;
}
