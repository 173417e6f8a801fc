/* covers: calls=clock_nanosleep kind=forwarded; breaks-when: pages of a big sparse mapping are
   lost, misplaced or not zero where nothing was written */
#include "conform.h"

static const uint64_t kSize = 8ULL << 30;
enum { kMarks = 4096 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_sparse");
  char* area = MUST(mmap(NULL, kSize, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  static uint64_t mark[kMarks];
  int marks = 0;
  uint64_t seed = 18;
  conform_ready();
  while (conform_next()) {
    for (int n = 0; n < 20 && marks < kMarks; ++n) {
      uint64_t at = next_random(&seed) % (kSize / kPage) * kPage;
      *(uint64_t*)(area + at + 8) = at ^ 0x5a5a;
      mark[marks++] = at;
    }
    for (int i = 0; i < marks; ++i) {
      CHECK(seen((long long)*(uint64_t*)(area + mark[i] + 8)) == (long long)(mark[i] ^ 0x5a5a),
            "mark %d", i);
      CHECK(*(uint64_t*)(area + mark[i]) == 0, "beside mark %d", i);
    }
    uint64_t elsewhere = next_random(&seed) % (kSize / kPage) * kPage;
    CHECK(*(uint64_t*)(area + elsewhere) == 0, "an untouched page");
    printf("marks %d\n", marks);
  }
  return conform_end();
}
