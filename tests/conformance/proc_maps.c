/* covers: calls=openat kind=comehome; moves=away; breaks-when: /proc/self/maps does not show the
   program's own mappings as they are at this moment */
#include "conform.h"

// The permissions of the mapping that holds this address ("----" if there is none).
static const char* permissions(const void* address) {
  static char found[5];
  strcpy(found, "none");
  FILE* maps = fopen("/proc/self/maps", "re");
  CHECK(maps != NULL, "fopen");
  char line[PATH_MAX + 200], mode[5];
  unsigned long from, to;
  while (fgets(line, sizeof line, maps)) {
    CHECK(sscanf(line, "%lx-%lx %4s", &from, &to, mode) == 3, "line %s", line);
    if (from <= (uintptr_t)address && (uintptr_t)address < to) strcpy(found, mode);
  }
  fclose(maps);
  return found;
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "proc_maps");
  static int data;
  int local;
  conform_ready();
  while (conform_next()) {
    if (conform.round % 4 != 2) continue;
    char* area =
        MUST(mmap(NULL, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    MUST(mprotect(area + kPage, kPage, PROT_READ));
    MUST(munmap(area + 2 * kPage, kPage));
    CHECK(seen(strcmp(permissions(area), "rw-p")) == 0, "the first page");
    CHECK(strcmp(permissions(area + kPage), "r--p") == 0, "the second page");
    CHECK(strcmp(permissions(area + 2 * kPage), "none") == 0, "the third page");
    CHECK(strcmp(permissions(&data), "rw-p") == 0, "data");
    CHECK(strcmp(permissions(&local), "rw-p") == 0, "stack");
    CHECK(strcmp(permissions((void*)(uintptr_t)main), "r-xp") == 0, "text");
    MUST(munmap(area, 2 * kPage));
  }
  return conform_end();
}
