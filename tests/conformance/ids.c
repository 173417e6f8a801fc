/* covers: calls=getppid,getuid,geteuid,getgid,getegid,getresuid,getgroups,getpgid,getsid,getpgrp
   kind=forwarded; calls=getpid,gettid kind=local; breaks-when: an identity differs from home's */
#include <grp.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "ids");
  pid_t ppid = getppid(), pgid = getpgid(0), sid = getsid(0);
  uid_t uid = getuid(), ruid, euid, suid;
  gid_t gid = getgid(), groups[256], again[256];
  int count = MUST(getgroups(256, groups));
  conform_ready();
  while (conform_next()) {
    CHECK(seen(syscall(SYS_getpid)) == conform.pid && syscall(SYS_gettid) == conform.pid, "pid");
    CHECK(getpid() == conform.pid && gettid() == conform.pid, "pid by the library");
    CHECK(getppid() == ppid, "ppid %d", getppid());
    CHECK(getuid() == uid && geteuid() == uid && getgid() == gid && getegid() == gid, "uid, gid");
    MUST(getresuid(&ruid, &euid, &suid));
    CHECK(ruid == uid && euid == uid && suid == uid, "getresuid");
    memset(again, 0xff, sizeof again);
    CHECK(getgroups(256, again) == count &&
              memcmp(groups, again, (size_t)count * sizeof groups[0]) == 0,
          "groups");
    if (count > 1) MUST_FAIL(EINVAL, getgroups(1, again));
    CHECK(getpgid(0) == pgid && getpgrp() == pgid && getpgid(conform.pid) == pgid, "pgid");
    CHECK(getsid(0) == sid && getsid(conform.pid) == sid, "sid");
    MUST(kill(conform.pid, 0));
    MUST_FAIL(ESRCH, getpgid(0x7ffffff0));
  }
  return conform_end();
}
