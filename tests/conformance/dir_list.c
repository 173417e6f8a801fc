/* covers: calls=getdents64,openat kind=forwarded; breaks-when: a directory's entries are lost,
   doubled or of another kind, also when read in small pieces with moves between */
#include <dirent.h>

#include "conform.h"

enum { kFiles = 300 };

int main(int argc, char** argv) {
  conform_begin(argc, argv, "dir_list");
  conform_dir();
  char name[40];
  for (int i = 0; i < kFiles; ++i) {
    snprintf(name, sizeof name, "file-with-a-longer-name-%d", i);
    MUST(close(MUST(open(in_dir(name), O_WRONLY | O_CREAT, 0600))));
  }
  MUST(mkdir(in_dir("sub"), 0700));
  conform_ready();
  while (conform_next()) {
    bool found[kFiles] = {false};
    int files = 0, others = 0;
    DIR* dir = opendir(conform.dir);
    CHECK(dir != NULL, "opendir");
    struct dirent* entry;
    while ((entry = readdir(dir)) != NULL) {
      int number;
      if (sscanf(entry->d_name, "file-with-a-longer-name-%d", &number) == 1) {
        CHECK(number >= 0 && number < kFiles && !found[number], "entry %s", entry->d_name);
        CHECK(entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN, "kind of %s", entry->d_name);
        found[number] = true;
        ++files;
      } else {
        CHECK(entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN, "kind of %s", entry->d_name);
        ++others;
      }
    }
    CHECK(seen(files) == kFiles && others == 3, "%d files and %d others", files, others);
    closedir(dir);

    // The same in pieces of a few entries.
    int fd = MUST(open(conform.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    char piece[600] __attribute__((aligned(8)));
    int entries = 0;
    for (;;) {
      long size = MUST(syscall(SYS_getdents64, fd, piece, sizeof piece));
      if (size == 0) break;
      for (long at = 0; at < size; ++entries) at += ((struct dirent64*)(piece + at))->d_reclen;
      if (entries % 100 < 8) pause_ms(3);
    }
    CHECK(entries == kFiles + 3, "%d entries", entries);
    MUST(close(fd));
  }
  return conform_end();
}
