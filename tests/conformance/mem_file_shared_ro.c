/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: a shared read-only mapping of a file
   nobody can write (as of locale archives) is lost, becomes writable or shows other bytes */
#include <setjmp.h>

#include "conform.h"

enum { kSize = 200 * kPage + 1234 };

static sigjmp_buf back;
static void fault(int signo, siginfo_t* info, void* context) {
  (void)signo, (void)info, (void)context;
  siglongjmp(back, 1);
}

static bool writable(volatile char* at) {
  if (sigsetjmp(back, 1) != 0) return false;
  *at = 1;
  return true;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_file_shared_ro");
  conform_dir();
  static char data[kSize];
  fill(data, kSize, 16);
  int fd = MUST(open(in_dir("archive"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  CHECK(send_all(fd, data, kSize), "write");
  MUST(close(fd));
  fd = MUST(open(in_dir("archive"), O_RDONLY | O_CLOEXEC));
  volatile char* at = MUST(mmap(NULL, kSize, PROT_READ, MAP_SHARED, fd, 0));
  MUST(close(fd));
  on_signal(SIGSEGV, fault, SA_NODEFER);
  conform_ready();
  uint64_t seed = 16;
  while (conform_next()) {
    size_t from = next_random(&seed) % (kSize - 10000);
    for (size_t i = from; i < from + 10000; ++i) CHECK(seen(at[i]) == data[i], "byte %zu", i);
    // Past the end of the file, in its last page, there are zeroes.
    for (size_t i = kSize; i % kPage != 0; ++i) CHECK(at[i] == 0, "byte %zu, past the end", i);
    CHECK(!writable(at + from), "it could be written");
    printf("from %zu\n", from);
  }
  return conform_end();
}
