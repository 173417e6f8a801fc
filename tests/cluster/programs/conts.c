// conts: says when it is continued, but not while it handles a SIGUSR1: that takes until SIGUSR2
// comes, and it says when that begins and ends.
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t over;

static void say(const char* what) {
  if (write(1, what, strlen(what)) < 0) _exit(1);
}

static void on_signal(int number) {
  if (number == SIGCONT) say("continued\n");
  if (number == SIGUSR2) over = 1;
  if (number != SIGUSR1) return;
  say("begins\n");
  while (!over) continue;
  say("ends\n");
}

int main(void) {
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGCONT, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);
  sigaddset(&action.sa_mask, SIGCONT);
  sigaction(SIGUSR1, &action, NULL);
  say("ready\n");
  for (;;) pause();
}
