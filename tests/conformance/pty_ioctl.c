/* covers: calls=ioctl,read,write kind=forwarded; breaks-when: a terminal's modes or size cannot be
   read or set, or its line discipline does not do what they say */
#include <sys/ioctl.h>
#include <termios.h>

#include "conform.h"

// Reads until the text ends with `end`.
static void read_until(int fd, const char* end, char* text, size_t size) {
  size_t have = 0;
  do {
    CHECK(have + 1 < size, "too much comes");
    have += (size_t)MUST(read(fd, text + have, size - 1 - have));
    text[have] = 0;
  } while (have < strlen(end) || strcmp(text + have - strlen(end), end) != 0);
}

int main(int argc, char** argv) {
  conform_begin(argc, argv, "pty_ioctl");
  int master = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  MUST(grantpt(master));
  MUST(unlockpt(master));
  char path[100];
  CHECK(ptsname_r(master, path, sizeof path) == 0, "ptsname_r");
  int slave = MUST(open(path, O_RDWR | O_NOCTTY | O_CLOEXEC));
  conform_ready();
  while (conform_next()) {
    struct winsize size = {.ws_row = (unsigned short)(20 + conform.round),
                           .ws_col = (unsigned short)(80 + conform.round % 7)};
    MUST(ioctl(master, TIOCSWINSZ, &size));
    struct winsize got = {0};
    MUST(ioctl(slave, TIOCGWINSZ, &got));
    CHECK(seen(got.ws_row) == size.ws_row && got.ws_col == size.ws_col, "size");

    bool echo = conform.round % 2;
    struct termios modes, again;
    MUST(tcgetattr(slave, &modes));
    modes.c_lflag =
        (modes.c_lflag & ~(tcflag_t)(ECHO | ECHOK | ECHOKE)) | ICANON | (echo ? ECHO : 0);
    modes.c_oflag &= ~(tcflag_t)OPOST;
    modes.c_cc[VKILL] = (cc_t)('A' + conform.round % 20);
    MUST(tcsetattr(slave, conform.round % 3 ? TCSANOW : TCSADRAIN, &modes));
    MUST(tcgetattr(slave, &again));
    CHECK(again.c_lflag == modes.c_lflag && again.c_oflag == modes.c_oflag &&
              memcmp(again.c_cc, modes.c_cc, sizeof modes.c_cc) == 0,
          "modes");
    CHECK(isatty(slave) == 1, "isatty");

    // A line, of which the start is killed by the character chosen above.
    char typed[20], line[20] = {0}, echoed[40];
    snprintf(typed, sizeof typed, "ab%czz\n", modes.c_cc[VKILL]);
    CHECK(write(master, typed, 6) == 6, "write");
    CHECK(read(slave, line, sizeof line) == 3 && strcmp(line, "zz\n") == 0, "a line");
    // The echo comes when the kernel gets round to it; without it, nothing comes before the output.
    if (echo) read_until(master, "zz\n", echoed, sizeof echoed);
    CHECK(write(slave, "out\n", 4) == 4, "write");
    read_until(master, "out\n", echoed, sizeof echoed);
    CHECK(strcmp(echoed, "out\n") == 0, "output");
    int waiting = -1;
    MUST(ioctl(master, FIONREAD, &waiting));
    CHECK(waiting == 0, "%d bytes are left", waiting);
    MUST(tcflush(slave, TCIOFLUSH));
    printf("size %d\n", got.ws_row);
  }
  return conform_end();
}
