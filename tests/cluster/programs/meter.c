// meter: does what it is told, line by line, and answers each with a line. The first line that it
// prints is its process id.
//
//   burn MS            computes until its thread has used so much more
//   until MS           computes until the clock of ITIMER_PROF and RLIMIT_CPU, by ticks, shows so
//   much clocks             what it has used, in us: of the process, of the thread, user, system
//   itimer MS PERIOD   arms ITIMER_PROF; 0: disarms
//   timer MS PERIOD    arms a timer by the CPU time of the process, with a signal of its own
//   left               what is left of the two, in us
//   signals            how many have come: SIGPROF, the timer's, SIGXCPU
//   block, unblock     the timer's signal; then its overruns are in "overruns"
//   overruns
//   limit SOFT HARD    RLIMIT_CPU, in seconds; "inf" is none
//   space SOFT HARD    RLIMIT_AS, in MiB
//   fill               maps, in pieces of a MiB, as much as there is; how many; fills them
//   check              whether they are all still what they were
//   drop               unmaps them
//   nice N, pin CPU    of the leading thread
//   on                 the CPU that it runs on
//   hang PATH          lets a thread of its own write to PATH
//   end
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { kMost = 4096, kPiece = 1 << 20 };

static volatile int profs, timers, limits, overrun;
static timer_t timer;
static unsigned char* pieces[kMost];
static int filled;

static void on_prof(int signo) {
  (void)signo;
  ++profs;
}
static void on_limit(int signo) {
  (void)signo;
  ++limits;
}
static void on_timer(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)context;
  ++timers;
  overrun = info->si_overrun;
}

static long long us(clockid_t clock) {
  struct timespec t;
  if (clock_gettime(clock, &t) != 0) exit(3);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}
static long long us_of(struct timeval t) { return t.tv_sec * 1000000LL + t.tv_usec; }

static void burn(long ms) {
  long long end = us(CLOCK_THREAD_CPUTIME_ID) + ms * 1000;
  do {
    for (volatile int i = 0; i < 200000; ++i) {
    }
  } while (us(CLOCK_THREAD_CPUTIME_ID) < end);
}

static void burn_until(long ms) {
  const clockid_t ticks = (clockid_t)(~(unsigned)getpid() << 3);
  while (us(ticks) < ms * 1000) burn(1);
}

static void clocks(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("%lld %lld %lld %lld\n", us(CLOCK_PROCESS_CPUTIME_ID), us(CLOCK_THREAD_CPUTIME_ID),
         us_of(usage.ru_utime), us_of(usage.ru_stime));
}

static void left(void) {
  struct itimerval of_itimer;
  struct itimerspec of_timer;
  getitimer(ITIMER_PROF, &of_itimer);
  timer_gettime(timer, &of_timer);
  printf("%lld %lld\n", us_of(of_itimer.it_value),
         of_timer.it_value.tv_sec * 1000000LL + of_timer.it_value.tv_nsec / 1000);
}

static int arm_itimer(long ms, long period) {
  struct itimerval setting = {.it_value = {ms / 1000, ms % 1000 * 1000},
                              .it_interval = {period / 1000, period % 1000 * 1000}};
  return setitimer(ITIMER_PROF, &setting, NULL);
}
static int arm_timer(long ms, long period) {
  struct itimerspec setting = {.it_value = {ms / 1000, ms % 1000 * 1000000},
                               .it_interval = {period / 1000, period % 1000 * 1000000}};
  return timer_settime(timer, 0, &setting, NULL);
}

static int limit(int resource, const char* soft, const char* hard, rlim_t unit) {
  struct rlimit setting = {
      .rlim_cur = strcmp(soft, "inf") == 0 ? RLIM_INFINITY : strtoul(soft, NULL, 10) * unit,
      .rlim_max = strcmp(hard, "inf") == 0 ? RLIM_INFINITY : strtoul(hard, NULL, 10) * unit};
  return setrlimit((__rlimit_resource_t)resource, &setting);
}

static void fill(void) {
  while (filled < kMost) {
    void* piece = mmap(NULL, kPiece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (piece == MAP_FAILED) break;
    memset(piece, filled % 251 + 1, kPiece);
    pieces[filled++] = piece;
  }
  printf("%d\n", filled);
}
static int check(void) {
  for (int i = 0; i < filled; ++i)
    for (int at = 0; at < kPiece; ++at)
      if (pieces[i][at] != i % 251 + 1) return i + 1;
  return 0;
}
static void drop(void) {
  while (filled > 0) munmap(pieces[--filled], kPiece);
}

static void* write_to(void* path) {
  int file = open(path, O_WRONLY | O_CREAT, 0600);
  if (file < 0 || write(file, "x", 1) != 1) exit(4);
  return path;
}
static int hang(const char* path) {
  pthread_t thread;
  return pthread_create(&thread, NULL, write_to, strdup(path));
}

static int pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)cpu, &set);
  return sched_setaffinity(0, sizeof set, &set);
}

static int mask(int how) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 2);
  return sigprocmask(how, &set, NULL);
}

// Whether it is a command that is answered by 0, or an errno.
static int plain(const char* verb, const char* a, const char* b, int* answer) {
  if (strcmp(verb, "burn") == 0)
    burn(atol(a)), *answer = 0;
  else if (strcmp(verb, "until") == 0)
    burn_until(atol(a)), *answer = 0;
  else if (strcmp(verb, "itimer") == 0)
    *answer = arm_itimer(atol(a), atol(b));
  else if (strcmp(verb, "timer") == 0)
    *answer = arm_timer(atol(a), atol(b));
  else if (strcmp(verb, "limit") == 0)
    *answer = limit(RLIMIT_CPU, a, b, 1);
  else if (strcmp(verb, "space") == 0)
    *answer = limit(RLIMIT_AS, a, b, 1 << 20);
  else if (strcmp(verb, "block") == 0 || strcmp(verb, "unblock") == 0)
    *answer = mask(verb[0] == 'b' ? SIG_BLOCK : SIG_UNBLOCK);
  else if (strcmp(verb, "nice") == 0)
    *answer = setpriority(PRIO_PROCESS, 0, atoi(a));
  else if (strcmp(verb, "pin") == 0)
    *answer = pin(atoi(a));
  else if (strcmp(verb, "hang") == 0)
    *answer = hang(a);
  else if (strcmp(verb, "check") == 0)
    *answer = check();
  else if (strcmp(verb, "drop") == 0)
    drop(), *answer = 0;
  else
    return 0;
  if (*answer == -1) *answer = errno;
  return 1;
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
  signal(SIGPROF, on_prof);
  signal(SIGXCPU, on_limit);
  struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGRTMIN + 2, &action, NULL);
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 2};
  if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) != 0) return 2;
  printf("%d\n", (int)getpid());
  char line[256];
  while (fgets(line, sizeof line, stdin)) {
    char verb[32] = "", a[192] = "0", b[32] = "0";
    int answer = 0;
    sscanf(line, "%31s %191s %31s", verb, a, b);
    if (plain(verb, a, b, &answer))
      printf("%d\n", answer);
    else if (strcmp(verb, "clocks") == 0)
      clocks();
    else if (strcmp(verb, "left") == 0)
      left();
    else if (strcmp(verb, "signals") == 0)
      printf("%d %d %d\n", profs, timers, limits);
    else if (strcmp(verb, "overruns") == 0)
      printf("%d %d\n", overrun, timer_getoverrun(timer));
    else if (strcmp(verb, "fill") == 0)
      fill();
    else if (strcmp(verb, "on") == 0)
      printf("%d\n", sched_getcpu());
    else if (strcmp(verb, "end") == 0)
      break;
    else
      printf("?\n");
  }
  return 0;
}
