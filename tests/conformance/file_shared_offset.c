/* covers: calls=read,write,lseek kind=forwarded; breaks-when: the file offset that the program
   shares with a process at home is not one */
#include "conform.h"

enum { kRecord = 16 };

static int source, target;

static int64_t read_next(void) {
  char record[kRecord];
  CHECK(read(source, record, kRecord) == kRecord, "read");
  CHECK(send_all(target, record, kRecord), "write");
  return atoll(record);
}

static void reader(int in, int out) {
  int64_t question;
  while (receive_all(in, &question, sizeof question)) {
    int64_t answer = question == 1 ? read_next() : lseek(source, 0, SEEK_CUR);
    send_all(out, &answer, sizeof answer);
  }
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "file_shared_offset");
  conform_dir();
  int total = conform.rounds * 5;
  FILE* numbers = fopen(in_dir("numbers"), "w");
  for (int i = 0; i < total; ++i) fprintf(numbers, "%015d\n", i);
  fclose(numbers);
  source = MUST(open(in_dir("numbers"), O_RDONLY | O_CLOEXEC));
  target = MUST(open(in_dir("copy"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  struct helper helper = conform_helper(reader);
  conform_ready();
  int64_t next = 0;
  while (conform_next()) {
    for (int i = 0; i < 5; ++i, ++next) {
      int64_t got = (next * 7 + conform.round) % 3 ? read_next() : ask(&helper, 1);
      CHECK(seen(got) == next, "record %lld instead of %lld", (long long)got, (long long)next);
    }
    CHECK(ask(&helper, 2) == next * kRecord, "the offset as home sees it");
    CHECK(lseek(target, 0, SEEK_CUR) == next * kRecord, "the offset of the copy");
    printf("next %lld\n", (long long)next);
  }
  char record[kRecord];
  FILE* copy = fopen(in_dir("copy"), "r");
  for (int i = 0; i < total; ++i)
    CHECK(fread(record, kRecord, 1, copy) == 1 && atoll(record) == i, "line %d of the copy", i);
  fclose(copy);
  return conform_end();
}
