/* covers: calls=clone3 kind=comehome; moves=away; breaks-when: system() and popen() while away do
   not run the command at home, in the program's directory, or give its status */
#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "proc_system");
  conform_dir();
  MUST(chdir(conform.dir));
  char command[100], line[100];
  conform_ready();
  while (conform_next()) {
    if (conform.round % 8 != 4) continue;
    snprintf(command, sizeof command, "echo round $((%d + 1000)) > out; exit %d", conform.round,
             conform.round % 100);
    int status = system(command);
    CHECK(WIFEXITED(status) && seen(WEXITSTATUS(status)) == conform.round % 100, "status %x",
          status);
    FILE* out = fopen(in_dir("out"), "r");
    CHECK(out != NULL && fgets(line, sizeof line, out) != NULL, "its output");
    fclose(out);
    printf("%s", line);
    FILE* piped = popen("cat out", "r");
    CHECK(piped != NULL && fgets(command, sizeof command, piped) != NULL, "popen");
    CHECK(strcmp(command, line) == 0, "popen gave %s", command);
    CHECK(pclose(piped) == 0, "pclose");
  }
  MUST(chdir("/"));
  return conform_end();
}
