// crowd WHAT [NUMBER]: a process of several threads that prints its pid and waits for SIGUSR1.
//
// exec N: becomes /bin/sh, which says "exec" and ends with 7; N other threads wait meanwhile.
// fault N: dies of a fault; N other threads wait meanwhile.
// leave MS: another thread ends MS milliseconds after the beginning; ends with 0.
// fork FILE: makes a child and says "forked", again for each SIGUSR1; another thread waits for what
//   never comes, and says "woken" if it is disturbed; a third writes to FILE at SIGUSR2.
// raw: another thread ends by exit(2) itself, with no signal blocked, half a second after the first
//   SIGUSR1. For the second one it says how often SIGRTMIN+3 has come, "got NUMBER", and ends.
// chain: says "N LINKS" every 100 ms: how many threads there have been, each made by the one
// before.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sigset_t usr1;
static atomic_int count;

__attribute__((format(printf, 1, 2))) static void say(const char* format, ...) {
  char line[64];
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (write(STDOUT_FILENO, line, (size_t)length) != length) _exit(3);
}

static void await_usr1(void) {
  int number = 0;
  if (sigwait(&usr1, &number) != 0) _exit(4);
}

static void pause_ms(long ms) {
  const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void start(void* (*body)(void*), void* argument) {
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 * 1024);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  if (pthread_create(&thread, &attributes, body, argument) != 0) _exit(5);
}

static void* wait_for_ever(void* argument) {
  for (;;) pause();
  return argument;
}

static void* wait_for_nothing(void* argument) {
  const int nothing = epoll_create1(0);
  struct epoll_event event;
  for (;;) {
    epoll_wait(nothing, &event, 1, -1);
    say("woken\n");
  }
  return argument;
}

static void* write_to_file(void* argument) {
  sigset_t usr2;
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  int number = 0;
  if (sigwait(&usr2, &number) != 0) _exit(4);
  const int file = open(argument, O_WRONLY | O_CREAT, 0644);
  if (write(file, "line\n", 5) != 5) _exit(3);
  say("written\n");
  return argument;
}

static void* leave(void* argument) {
  // No call that home would have to answer.
  for (int64_t end = now_ms() + (intptr_t)argument; now_ms() < end;) continue;
  return NULL;
}

static void* link_of_chain(void* argument) {
  atomic_fetch_add(&count, 1);
  for (volatile int i = 0; i < 3000; ++i) continue;
  start(link_of_chain, argument);
  return NULL;
}

static void on_realtime(int number) {
  (void)number;
  atomic_fetch_add(&count, 1);
}

static atomic_int is_told;

static int end_raw(void* argument) {
  (void)argument;
  // Nothing that takes part in what libc keeps of its threads.
  while (!atomic_load(&is_told)) continue;
  for (int64_t end = now_ms() + 500; now_ms() < end;) continue;
  syscall(SYS_exit, 0);
  return 0;
}

static int raw(void) {
  static char stack[64 * 1024];
  sigset_t realtime;
  sigemptyset(&realtime);
  sigaddset(&realtime, SIGRTMIN + 3);
  struct sigaction action = {.sa_handler = on_realtime, .sa_flags = SA_RESTART};
  sigaction(SIGRTMIN + 3, &action, NULL);
  const int flags =
      CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  if (clone(end_raw, stack + sizeof stack, flags, NULL) < 0) return 6;
  pthread_sigmask(SIG_BLOCK, &realtime, NULL);
  await_usr1();
  atomic_store(&is_told, 1);
  await_usr1();
  pthread_sigmask(SIG_UNBLOCK, &realtime, NULL);
  say("got %d\n", atomic_load(&count));
  return 0;
}

static int fork_often(char* file) {
  start(wait_for_nothing, NULL);
  start(write_to_file, file);
  for (;;) {
    await_usr1();
    const pid_t child = fork();
    if (child == 0) _exit(0);
    if (child < 0 || waitpid(child, NULL, 0) != child) return 6;
    say("forked\n");
  }
}

static int chain(void) {
  start(link_of_chain, NULL);
  for (int n = 0;; ++n, pause_ms(100)) say("%d %d\n", n, atomic_load(&count));
  return 0;
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  const long number = argc > 2 ? atol(argv[2]) : 0;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigset_t both = usr1;
  sigaddset(&both, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &both, NULL);
  const int is_crowd = strcmp(what, "exec") == 0 || strcmp(what, "fault") == 0;
  for (long i = 0; is_crowd && i < number; ++i) start(wait_for_ever, NULL);
  if (strcmp(what, "leave") == 0) start(leave, (void*)number);
  say("%d\n", getpid());
  if (strcmp(what, "fork") == 0 && argc > 2) return fork_often(argv[2]);
  if (strcmp(what, "raw") == 0) return raw();
  if (strcmp(what, "chain") == 0) return chain();
  await_usr1();
  if (strcmp(what, "exec") == 0) execl("/bin/sh", "sh", "-c", "echo exec; exit 7", (char*)NULL);
  if (strcmp(what, "fault") == 0) *(volatile int*)8 = 1;
  return 0;
}
