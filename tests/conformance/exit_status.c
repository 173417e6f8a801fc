/* covers: calls=clock_nanosleep kind=forwarded; ends=exit:42; moves=away; breaks-when: the exit
   status is not the one that the program gave, as its parent at home sees it */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "exit_status");
  conform_ready();
  while (conform_next()) spin_ms(3);
  conform_ok();
  return (int)seen(42);
}
