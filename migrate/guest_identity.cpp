// Who the guest is: enter_guest_identity and confine_self of migrate/sandbox.h.
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "migrate/sandbox.h"
#include "migrate/sandbox_init.h"

namespace drover {

namespace {

constexpr int kKept[] = {CAP_SETUID, CAP_SETGID, CAP_SYS_CHROOT};

Status check(long result, const char* what) {
  if (result < 0) return errno_error(std::string("guest identity: ") + what);
  return {};
}

/// So that not even an exec of something setuid could get them.
Status drop_bounding_set() {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    if (std::ranges::find(kKept, capability) != std::end(kKept)) continue;
    DROVER_CHECK(check(prctl(PR_CAPBSET_DROP, capability), "bounding set"));
  }
  return {};
}

}  // namespace

Status enter_guest_identity(std::uint32_t outer_uid) {
  DROVER_CHECK(drop_bounding_set());
  DROVER_CHECK(check(setgroups(0, nullptr), "setgroups"));
  DROVER_CHECK(check(prctl(PR_SET_KEEPCAPS, 1), "keep capabilities"));
  DROVER_CHECK(check(setresgid(outer_uid, outer_uid, outer_uid), "setresgid"));
  DROVER_CHECK(check(setresuid(outer_uid, outer_uid, outer_uid), "setresuid"));
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  for (const int capability : kKept) data[0].permitted |= 1u << capability;
  data[0].effective = data[0].inheritable = data[0].permitted;
  DROVER_CHECK(check(syscall(SYS_capset, &header, data), "capset"));
  for (const int capability : kKept) {
    DROVER_CHECK(check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0), "ambient"));
  }
  return {};
}

Status make_guest_root(const std::string& root) {
  constexpr unsigned long kNothing = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  const std::string proc = root + "/proc";
  DROVER_CHECK(check(unshare(CLONE_NEWNS), "mount namespace"));
  // What the node unmounts later is not to be kept by its guests.
  DROVER_CHECK(check(mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr), "make / a slave"));
  DROVER_CHECK(check(mount("guest-root", root.c_str(), "tmpfs", kNothing, "mode=0555,size=4k"),
                     "mount its root"));
  DROVER_CHECK(check(mkdir(proc.c_str(), 0555), "make its /proc"));
  DROVER_CHECK(check(mount("/proc", proc.c_str(), nullptr, MS_BIND, nullptr), "mount its /proc"));
  return check(
      mount(nullptr, root.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | kNothing, nullptr),
      "close its root");
}

Status enter_guest_root(const std::string& root) {
  DROVER_CHECK(check(chroot(root.c_str()), "enter its root"));
  return check(chdir("/"), "enter its root");
}

Status confine_self() {
  DROVER_CHECK(sandbox_init::keep_capabilities(0));
  DROVER_CHECK(check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs"));
  DROVER_CHECK(sandbox_init::forbid_core_dumps());
  return check(prctl(PR_SET_DUMPABLE, 0), "unset dumpable");
}

}  // namespace drover
