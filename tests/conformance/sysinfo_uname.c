/* covers: calls=uname,sysinfo kind=forwarded; breaks-when: the program sees another machine's name,
   kernel, memory or uptime than home's */
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "sysinfo_uname");
  struct utsname first;
  struct sysinfo info_first;
  MUST(uname(&first));
  MUST(sysinfo(&info_first));
  char name_first[100], name[100];
  MUST(gethostname(name_first, sizeof name_first));
  conform_ready();
  while (conform_next()) {
    struct utsname got;
    memset(&got, 1, sizeof got);
    MUST(uname(&got));
    CHECK(seen(strcmp(got.nodename, first.nodename)) == 0, "node name %s", got.nodename);
    CHECK(strcmp(got.release, first.release) == 0 && strcmp(got.version, first.version) == 0 &&
              strcmp(got.machine, first.machine) == 0 && strcmp(got.sysname, first.sysname) == 0 &&
              strcmp(got.domainname, first.domainname) == 0,
          "uname");
    MUST(gethostname(name, sizeof name));
    CHECK(strcmp(name, name_first) == 0, "host name %s", name);
    struct sysinfo info;
    MUST(sysinfo(&info));
    CHECK(info.totalram == info_first.totalram && info.mem_unit == info_first.mem_unit, "memory");
    CHECK(info.uptime >= info_first.uptime &&
              info.uptime < info_first.uptime + conform.rounds + kLate / kSecond,
          "uptime %ld after %ld", info.uptime, info_first.uptime);
    int64_t boot = now(CLOCK_BOOTTIME) / kSecond;
    CHECK(info.uptime >= boot - 3 && info.uptime <= boot + 3, "uptime and CLOCK_BOOTTIME");
  }
  return conform_end();
}
