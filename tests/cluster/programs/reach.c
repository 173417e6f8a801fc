// reach: does what its standard input says, one line at a time, and says what came of it, so
// that a test can see which node's things a system call reaches.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static void say_error(void) { printf("%s\n", strerrorname_np(errno)); }

static void say_contents(int fd) {
  char text[256];
  if (fd < 0) {
    say_error();
    return;
  }
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n < 0) {
    say_error();
    return;
  }
  text[n] = 0;
  text[strcspn(text, "\n")] = 0;
  printf("read %s\n", text);
}

static void say_result(long result) {
  if (result < 0)
    say_error();
  else
    printf("ok\n");
}

static void write_file(const char* path) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
  say_result(fd < 0 ? fd : write(fd, "by reach\n", 9));
  if (fd >= 0) close(fd);
}

static void connect_to(const char* port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  say_result(fd < 0 ? fd : connect(fd, (struct sockaddr*)&address, sizeof address));
  if (fd >= 0) close(fd);
}

// Says how many processes have MARK in their command line.
static void count_processes(const char* mark) {
  DIR* proc = opendir("/proc");
  int count = 0;
  for (struct dirent* entry; proc && (entry = readdir(proc));) {
    char path[300];
    char text[512] = {0};
    snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
    const int fd = open(path, O_RDONLY);
    if (fd < 0) continue;
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    for (ssize_t i = 0; i < n; ++i)
      if (!text[i]) text[i] = ' ';
    if (strstr(text, mark)) ++count;
  }
  if (proc) closedir(proc);
  printf("%d\n", count);
}

// open(2) by the way of 32-bit programs, which a filter for 64-bit ones may miss.
static void open_by_int80(const char* path) {
  char* low =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  strcpy(low, path);
  long fd = 5;
  __asm__ volatile("int $0x80" : "+a"(fd) : "b"(low), "c"(0), "d"(0) : "memory");
  if (fd < 0) {
    errno = (int)-fd;
    fd = -1;
  }
  say_contents((int)fd);
}

static void do_line(const char* verb, const char* what) {
  struct utsname names;
  if (!strcmp(verb, "read"))
    say_contents(open(what, O_RDONLY));
  else if (!strcmp(verb, "read80"))
    open_by_int80(what);
  else if (!strcmp(verb, "readx32"))
    say_contents((int)syscall(0x40000000 | SYS_open, what, O_RDONLY));
  else if (!strcmp(verb, "write"))
    write_file(what);
  else if (!strcmp(verb, "connect"))
    connect_to(what);
  else if (!strcmp(verb, "count"))
    count_processes(what);
  else if (!strcmp(verb, "kill"))
    say_result(kill(atoi(what), SIGTERM));
  else if (!strcmp(verb, "tgkill"))
    say_result(syscall(SYS_tgkill, atoi(what), atoi(what), SIGTERM));
  else if (!strcmp(verb, "attach"))
    say_result(ptrace(PTRACE_SEIZE, atoi(what), NULL, NULL));
  else if (!strcmp(verb, "name"))
    printf("%s\n", uname(&names) == 0 ? names.nodename : "?");
  else if (!strcmp(verb, "ids"))
    printf("%d %d %d\n", getpid(), getuid(), geteuid());
  else
    printf("?\n");
}

int main(void) {
  char line[512];
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("%d\n", getpid());
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    char* what = strchr(line, ' ');
    if (what) *what++ = 0;
    do_line(line, what ? what : "");
  }
  return 0;
}
