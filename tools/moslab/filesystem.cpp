#include "tools/moslab/filesystem.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace drover::moslab {
namespace {

namespace fs = std::filesystem;

// Empty at first, kept on the node's disk.
constexpr std::array kOwnDirs = {"/home", "/root", "/var", "/etc/drover"};
// New at every boot.
constexpr std::array kVolatileDirs = {"/run", "/tmp", "/dev", "/proc", "/sys"};
constexpr std::array kVarDirs = {"/var/cache", "/var/lib", "/var/log", "/var/mail", "/var/spool"};
// An overlay shows nothing of the lower directory with that name (overlayfs.rst, "Whiteouts and
// opaque directories").
constexpr char kOpaque[] = "trusted.overlay.opaque";
constexpr std::array kDevices = {"null", "zero", "full",        "random", "urandom",
                                 "tty",  "fuse", "userfaultfd", "kvm",    "net/tun"};
constexpr char kTerminalGroup[] = "5";  // Debian's group tty, as mount -t devpts has it there

Status make_dirs(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return Error{error.value(), "mkdir " + path};
  return {};
}

/// Makes upper/path, every part of it with mode and owner of the host's directory of that name:
/// the overlay shows those of the upper one.
Status mirror_dirs(const std::string& upper, const std::string& path) {
  fs::path part;
  for (const auto& name : fs::path(path)) {
    part /= name;
    const std::string made = upper + part.string();
    if (mkdir(made.c_str(), 0755) != 0) {
      if (errno == EEXIST) continue;
      return errno_error("mkdir " + made);
    }
    struct stat host {};
    if (stat(part.c_str(), &host) != 0) continue;
    if (chown(made.c_str(), host.st_uid, host.st_gid) != 0 ||
        chmod(made.c_str(), host.st_mode) != 0)
      return errno_error("set owner and mode of " + made);
  }
  return {};
}

Status write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (!file) return errno_error("write " + path);
  return {};
}

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return std::string((std::istreambuf_iterator<char>(file)), {});
}

Status do_mount(const std::string& source, const std::string& target, const char* type,
                unsigned long flags, const std::string& options = "") {
  if (mount(source.c_str(), target.c_str(), type, flags, options.c_str()) != 0)
    return errno_error(std::string("mount ") + type + " on " + target);
  return {};
}

Status mount_overlay(const std::string& lower, const std::string& disk, const std::string& layer,
                     const std::string& target) {
  const std::string upper = disk + "/" + layer, work = disk + "/" + layer + ".work";
  DROVER_CHECK(make_dirs(upper));
  DROVER_CHECK(make_dirs(work));
  return do_mount("moslab", target, "overlay", 0,
                  "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work);
}

bool starts_with_dir(const std::string& path, const std::string& dir) {
  return path == dir || path.rfind(dir + "/", 0) == 0;
}

/// Puts the host's `path` into the node, through an overlay of the node's own.
Status show_host_dir(const std::string& root, const std::string& disk, const std::string& path) {
  std::string layer = "extra" + path;
  std::ranges::replace(layer, '/', '_');
  DROVER_CHECK(make_dirs(root + path));
  return mount_overlay(path, disk, layer, root + path);
}

/// Whether the overlay over / shows what the host has at `path`.
bool in_root_overlay(const std::string& path) {
  struct stat here {
  }, root{};
  return !is_private(path) && stat(path.c_str(), &here) == 0 && stat("/", &root) == 0 &&
         here.st_dev == root.st_dev;
}

/// An inner mask after the one around it is nothing new on the nodes where that one is empty.
bool inside_another(const std::vector<std::string>& masks, const std::string& mask) {
  return std::ranges::any_of(masks, [&](const std::string& other) {
    return other != mask && starts_with_dir(mask, other);
  });
}

Status mount_masks(const LabSpec& spec, int index, const std::string& root,
                   const std::string& disk) {
  // Sorted, so that an outer one is not mounted over those inside it.
  for (const std::string& mask : std::set(spec.masks.begin(), spec.masks.end())) {
    if (index != 1 && inside_another(spec.masks, mask)) continue;
    if (index != 1) {
      DROVER_CHECK(make_dirs(root + mask));
      DROVER_CHECK(do_mount("moslab-mask", root + mask, "tmpfs", 0, "mode=0755"));
    } else if (!in_root_overlay(mask)) {
      DROVER_CHECK(show_host_dir(root, disk, mask));
    }
  }
  return {};
}

Status bind_read_only(const std::string& source, const std::string& target) {
  DROVER_CHECK(make_dirs(target));
  if (mount(source.c_str(), target.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
      mount(nullptr, target.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0)
    return errno_error("mount " + source + " on " + target);
  return {};
}

Status mount_dev(const std::string& root) {
  const std::string dev = root + "/dev";
  DROVER_CHECK(make_dirs(dev));
  DROVER_CHECK(do_mount("moslab-dev", dev, "tmpfs", MS_NOSUID, "mode=0755"));
  for (const char* dir : {"/pts", "/shm", "/mqueue", "/net"}) DROVER_CHECK(make_dirs(dev + dir));
  for (const char* name : kDevices) {
    struct stat host {};
    if (stat((std::string("/dev/") + name).c_str(), &host) != 0) continue;
    const std::string path = dev + "/" + name;
    if (mknod(path.c_str(), host.st_mode, host.st_rdev) != 0) return errno_error("mknod " + path);
    chmod(path.c_str(), host.st_mode & 07777);  // mknod obeys the umask
  }
  for (const auto& [link, target] :
       {std::pair("ptmx", "pts/ptmx"), std::pair("fd", "/proc/self/fd"),
        std::pair("stdin", "/proc/self/fd/0"), std::pair("stdout", "/proc/self/fd/1"),
        std::pair("stderr", "/proc/self/fd/2")}) {
    if (symlink(target, (dev + "/" + link).c_str()) != 0)
      return errno_error(std::string("symlink /dev/") + link);
  }
  DROVER_CHECK(do_mount("devpts", dev + "/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                        std::string("newinstance,ptmxmode=0666,mode=0620,gid=") + kTerminalGroup));
  DROVER_CHECK(do_mount("shm", dev + "/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"));
  return do_mount("mqueue", dev + "/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

/// The node's cgroup root, at the same mount points as on the host.
Status mount_cgroups(const std::string& root, const std::vector<Hierarchy>& hierarchies) {
  const std::string top = root + "/sys/fs/cgroup";
  const bool pure_v2 = hierarchies.size() == 1 && hierarchies.front().mount == "/sys/fs/cgroup";
  if (!pure_v2) DROVER_CHECK(do_mount("cgroup", top, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755"));
  for (const Hierarchy& hierarchy : hierarchies) {
    const std::string target = root + hierarchy.mount;
    DROVER_CHECK(make_dirs(target));
    DROVER_CHECK(do_mount("cgroup", target, hierarchy.v2() ? "cgroup2" : "cgroup",
                          MS_NOSUID | MS_NODEV | MS_NOEXEC, hierarchy.controllers));
  }
  return {};
}

Status mount_volatile(const std::string& root, const std::vector<Hierarchy>& hierarchies) {
  for (const char* dir : {"/proc", "/sys", "/run", "/tmp"}) DROVER_CHECK(make_dirs(root + dir));
  const unsigned long quiet = MS_NOSUID | MS_NODEV;
  // Nothing may be mounted over any part of /proc and /sys: a user namespace is allowed to mount
  // its own only where its creator sees all of it.
  DROVER_CHECK(do_mount("proc", root + "/proc", "proc", quiet | MS_NOEXEC));
  DROVER_CHECK(do_mount("sysfs", root + "/sys", "sysfs", quiet | MS_NOEXEC));
  DROVER_CHECK(mount_cgroups(root, hierarchies));
  DROVER_CHECK(do_mount("run", root + "/run", "tmpfs", quiet, "mode=0755"));
  DROVER_CHECK(do_mount("tmp", root + "/tmp", "tmpfs", quiet, "mode=1777"));
  DROVER_CHECK(make_dirs(root + "/run/lock"));
  chmod((root + "/run/lock").c_str(), 01777);
  return mount_dev(root);
}

Status pivot_to(const std::string& root) {
  // pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one.
  if (chdir(root.c_str()) != 0 || syscall(SYS_pivot_root, ".", ".") != 0)
    return errno_error("pivot_root to " + root);
  if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) return errno_error("leave the host's root");
  return {};
}

}  // namespace

bool is_private(const std::string& path) {
  auto holds = [&](const char* dir) { return starts_with_dir(path, dir); };
  return std::ranges::any_of(kOwnDirs, holds) || std::ranges::any_of(kVolatileDirs, holds);
}

std::vector<std::string> disk_mounts(const std::string& mountinfo) {
  static const std::set<std::string> types = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"};
  std::set<std::string> found;  // sorted, so that an outer mount comes before those inside it
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string skip, mount, type;
    fields >> skip >> skip >> skip >> skip >> mount;
    while (fields >> skip && skip != "-") {
    }
    fields >> type;
    // A name with a blank or the like is written with a backslash; such mounts are left out.
    const bool usable = types.count(type) && mount != "/" && mount.find('\\') == std::string::npos;
    if (usable && !is_private(mount)) found.insert(mount);
  }
  return {found.begin(), found.end()};
}

Status format_disk(const LabSpec& spec, int index) {
  const std::string disk = disk_dir(spec.name, index), upper = disk + "/upper";
  DROVER_CHECK(make_dirs(disk + "/root"));
  DROVER_CHECK(make_dirs(upper));
  for (const char* dir : kOwnDirs) {
    DROVER_CHECK(mirror_dirs(upper, dir));
    if (setxattr((upper + dir).c_str(), kOpaque, "y", 1, 0) != 0)
      return errno_error("make " + upper + dir + " opaque");
  }
  for (const char* dir : kVarDirs) DROVER_CHECK(make_dirs(upper + dir));
  DROVER_CHECK(make_dirs(upper + "/var/tmp"));
  chmod((upper + "/var/tmp").c_str(), 01777);
  fs::create_symlink("/run", upper + "/var/run");
  fs::create_symlink("/run/lock", upper + "/var/lock");
  DROVER_CHECK(mirror_dirs(upper, kNodeBin));
  std::string hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
  for (int i = 1; i <= spec.nodes; ++i) hosts += node_address(i) + " " + node_name(i) + "\n";
  DROVER_CHECK(write_text(upper + "/etc/hosts", hosts));
  return write_text(upper + "/etc/hostname", node_name(index) + "\n");
}

Status enter_new_root(const Lab& lab, int index) {
  const std::string disk = disk_dir(lab.spec.name, index), root = disk + "/root";
  umask(022);
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return errno_error("make mounts private");
  const auto extra = disk_mounts(read_text("/proc/self/mountinfo"));
  DROVER_CHECK(mount_overlay("/", disk, "upper", root));
  for (const std::string& path : extra) DROVER_CHECK(show_host_dir(root, disk, path));
  DROVER_CHECK(mount_volatile(root, lab.hierarchies));
  DROVER_CHECK(mount_masks(lab.spec, index, root, disk));
  DROVER_CHECK(bind_read_only(lab.spec.bin_of(index), root + kNodeBin));
  return pivot_to(root);
}

}  // namespace drover::moslab
