// numbers [SHARED]: prints numbered lines until SIGUSR1, then "end" and how many there were.
//
// Each line carries a number that follows from all before it, so that memory that was lost or
// came twice shows too. With SHARED, a child that stays where it was started writes into that
// file as well, through the same open file and so with the same offset; neither says where.
// EVERY_MS is the pause between two lines, BALLAST_MB memory that it holds on to and checks.
// Lines: "NUMBER CHAIN" on stdout, "WHO NUMBER CHAIN" in the file.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_usr1(int number) {
  (void)number;
  stop = 1;
}

// The generator of Knuth's MMIX: the checker computes the same.
static uint64_t next(uint64_t chain) { return chain * 6364136223846793005u + 1442695040888963407u; }

static void put(int fd, const char* line, int length) {
  // One write, whole or not at all: a short one is torn and is to be seen as such.
  if (write(fd, line, (size_t)length) != length) _exit(3);
}

static void pause_ms(long ms) {
  const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

static void child(int shared, int parent) {
  uint64_t chain = 1;
  char line[64];
  for (unsigned n = 0;; ++n) {
    put(shared, line, snprintf(line, sizeof line, "child %u %016lx\n", n, chain));
    chain = next(chain);
    struct pollfd gone = {parent, POLLIN, 0};
    if (poll(&gone, 1, 2) != 0) _exit(0);
  }
}

static size_t ballast_words(void) {
  const char* mb = getenv("BALLAST_MB");
  return mb ? (size_t)atol(mb) * (1024 * 1024 / sizeof(uint64_t)) : 0;
}

int main(int argc, char** argv) {
  const size_t words = ballast_words();
  uint64_t* ballast = calloc(words + 1, sizeof *ballast);
  for (size_t i = 0; i < words; ++i) ballast[i] = i * 2654435761u + 1;
  const char* every = getenv("EVERY_MS");
  const long ms = every ? atol(every) : 2;
  int shared = -1;
  int alive[2];
  if (argc > 1) {
    shared = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (shared < 0 || pipe(alive) != 0) return 2;
    const pid_t pid = fork();
    if (pid < 0) return 2;
    if (pid == 0) {
      close(alive[1]);
      child(shared, alive[0]);
    }
    close(alive[0]);
  }
  struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &action, NULL);

  uint64_t chain = 1;
  unsigned n = 0;
  char line[64];
  for (; !stop; ++n) {
    put(STDOUT_FILENO, line, snprintf(line, sizeof line, "%u %016lx\n", n, chain));
    if (shared >= 0) put(shared, line, snprintf(line, sizeof line, "job %u %016lx\n", n, chain));
    chain = next(chain);
    pause_ms(ms);
  }
  for (size_t i = 0; i < words; ++i)
    if (ballast[i] != i * 2654435761u + 1) return 6;
  int status = 0;
  if (shared >= 0) {
    close(alive[1]);
    if (wait(&status) < 0) return 4;
  }
  put(STDOUT_FILENO, line, snprintf(line, sizeof line, "end %u\n", n));
  return status == 0 ? 0 : 5;
}
