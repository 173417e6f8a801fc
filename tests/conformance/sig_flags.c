/* covers: calls=rt_sigaction kind=local; calls=clock_nanosleep kind=forwarded; breaks-when:
   SA_NODEFER, SA_RESETHAND, a handler's mask or an action read back differ */
#include "conform.h"

static volatile int depth, deepest, runs;

static void handler(int signo, siginfo_t* info, void* context) {
  (void)info, (void)context;
  ++runs;
  if (++depth > deepest) deepest = depth;
  if (depth < 3 && runs < 3) raise(signo);
  pause_ms(2);
  --depth;
}

static void once(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  ++runs;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sig_flags");
  conform_ready();
  while (conform_next()) {
    struct sigaction got;
    // Deferred: one after the other. Not deferred: inside each other.
    for (int defer = 0; defer < 2; ++defer) {
      on_signal(SIGUSR1, handler, defer ? 0 : SA_NODEFER);
      runs = deepest = 0;
      MUST(raise(SIGUSR1));
      CHECK(runs == 3, "%d runs", runs);
      CHECK(seen(deepest) == (defer ? 1 : 3), "%d deep with%s SA_NODEFER", deepest,
            defer ? "out" : "");
    }
    on_signal(SIGUSR2, once, (int)SA_RESETHAND);
    pause_ms(4);
    MUST(sigaction(SIGUSR2, NULL, &got));
    CHECK(got.sa_sigaction == once && (got.sa_flags & (int)SA_RESETHAND), "an action read back");
    runs = 0;
    MUST(raise(SIGUSR2));
    CHECK(runs == 1, "once");
    MUST(sigaction(SIGUSR2, NULL, &got));
    CHECK(got.sa_handler == SIG_DFL, "SA_RESETHAND");
    // A signal in the handler's mask waits until it has returned.
    struct sigaction masked = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigfillset(&masked.sa_mask);
    MUST(sigaction(SIGUSR1, &masked, NULL));
    runs = deepest = 0;
    MUST(raise(SIGUSR1));
    CHECK(runs == 3 && deepest == 1, "a full mask");
    MUST_FAIL(EINVAL, sigaction(SIGKILL, &masked, NULL));
  }
  return conform_end();
}
