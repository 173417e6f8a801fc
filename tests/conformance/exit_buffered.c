/* covers: calls=clock_nanosleep,write kind=forwarded; ends=exit:3; moves=away; breaks-when: _exit
   flushes what the program had only buffered, or loses what it had written */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "exit_buffered");
  conform_ready();
  while (conform_next()) spin_ms(2);
  conform_ok();
  char text[] = "written by write\n";
  CHECK(write(1, text, strlen(text)) == (ssize_t)strlen(text), "write");
  printf("only buffered, without an end of line");
  if (!seen(1)) fflush(stdout);
  _exit(3);
}
