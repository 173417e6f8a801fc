/* covers: calls=clock_nanosleep kind=forwarded; ends=exit:7; moves=away; breaks-when: exit() out of
   a signal handler does not run the atexit functions or gives another status */
#include "conform.h"

static void last_words(void) { printf("atexit\n"); }
static void handler(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  exit((int)seen(7));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "exit_handler");
  atexit(last_words);
  on_signal(SIGALRM, handler, 0);
  conform_ready();
  while (conform_next()) spin_ms(3);
  conform_ok();
  alarm(1);
  for (;;) pause();
}
