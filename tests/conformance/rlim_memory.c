/* covers: calls=setrlimit,prlimit64 kind=forwarded; calls=mmap,brk kind=local; moves=away;
   breaks-when: less or more memory can be mapped than the limits of address space and data allow */
#include <sys/resource.h>

#include "conform.h"

enum { kMost = 80 };
static const size_t kPiece = 64 << 20;
static char* pieces[kMost];

// Maps pieces until there is no more, and says how many; none is touched.
static int map_all(int protection) {
  int count = 0;
  for (; count < kMost; ++count) {
    errno = 0;
    pieces[count] = mmap(NULL, kPiece, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pieces[count] != MAP_FAILED) continue;
    CHECK(errno == ENOMEM, "piece %d", count);
    break;
  }
  for (int i = 0; i < count; ++i) MUST(munmap(pieces[i], kPiece));
  return count;
}

static void limit(int resource, rlim_t soft, rlim_t hard) {
  struct rlimit64 now = {.rlim_cur = soft, .rlim_max = hard};
  if (conform.round % 2)
    MUST(setrlimit64((__rlimit_resource_t)resource, &now));
  else
    MUST(prlimit64(getpid(), (enum __rlimit_resource)resource, &now, NULL));
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "rlim_memory");
  struct rlimit64 space, data;
  MUST(getrlimit64(RLIMIT_AS, &space));
  MUST(getrlimit64(RLIMIT_DATA, &data));
  conform_ready();
  while (conform_next()) {
    int room = 3 + conform.round % 5;
    // Whatever the program itself has mapped, it is less than half of a piece.
    rlim_t size = (rlim_t)room * kPiece + kPiece / 2;
    limit(RLIMIT_AS, size, space.rlim_max);
    int mapped = map_all(PROT_NONE);
    CHECK(seen(mapped) == room, "of %d pieces, %d can be mapped", room, mapped);
    limit(RLIMIT_AS, space.rlim_cur, space.rlim_max);

    limit(RLIMIT_DATA, size, data.rlim_max);
    mapped = map_all(PROT_READ | PROT_WRITE);
    CHECK(seen(mapped) == room, "of %d pieces of data, %d can be mapped", room, mapped);
    // What cannot be written to is no data.
    CHECK(map_all(PROT_READ) == kMost, "memory that is only read");
    char* end = MUST((char*)sbrk(0));
    MUST_FAIL(ENOMEM, (intptr_t)sbrk((intptr_t)size));
    CHECK(sbrk(0) == end, "the heap has grown");
    MUST(sbrk(kPage));
    MUST(brk(end));
    limit(RLIMIT_DATA, data.rlim_cur, data.rlim_max);
    mapped = map_all(PROT_READ | PROT_WRITE);
    CHECK(mapped > 60, "without a limit, only %d", mapped);

    struct rlimit64 too_much = {.rlim_cur = 2, .rlim_max = 1};
    MUST_FAIL(EINVAL, setrlimit64(RLIMIT_AS, &too_much));
    MUST_FAIL(EINVAL, syscall(SYS_setrlimit, 77, &too_much));
    MUST_FAIL(EFAULT, syscall(SYS_setrlimit, RLIMIT_AS, (void*)1));
  }
  return conform_end();
}
