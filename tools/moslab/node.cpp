#include "tools/moslab/node.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "tools/moslab/filesystem.h"
#include "tools/moslab/network.h"

namespace drover::moslab {
namespace {

constexpr int kDeathPatienceMs = 10000;
constexpr int kNodeNamespaces =
    CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWTIME;

/// A pipe through which a child says what went wrong; it closes unused when the child has become
/// what it should be, because an exec closes it.
struct Verdict {
  OwnedFd read_end;
  OwnedFd write_end;

  static Result<Verdict> open() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) return errno_error("pipe");
    return Verdict{OwnedFd(fds[0]), OwnedFd(fds[1])};
  }

  /// For the child: says the error and ends.
  [[noreturn]] void fail(const Error& error) const {
    const std::string text = error.message();
    (void)!write(write_end.get(), text.data(), text.size());
    _exit(1);
  }

  /// For the parent: waits for the end of it.
  Status wait() {
    write_end.reset();
    std::string text;
    char buffer[512];
    for (ssize_t n; (n = read(read_end.get(), buffer, sizeof buffer)) != 0;) {
      if (n > 0) text.append(buffer, static_cast<std::size_t>(n));
      if (n < 0 && errno != EINTR) return errno_error("read a child's verdict");
    }
    if (!text.empty()) return refusal(text);
    return {};
  }
};

/// A process that nothing of its starter's sticks to: own session, no descriptors but the three
/// standard ones on /dev/null after the next exec.
void detach() {
  setsid();
  const int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd <= 2; ++fd) dup2(null, fd);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int signal = 1; signal < SIGRTMIN; ++signal) std::signal(signal, SIG_DFL);
  prctl(PR_SET_PDEATHSIG, 0);
  close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

Status write_own(const char* path, const std::string& text) {
  OwnedFd fd(open(path, O_WRONLY | O_CLOEXEC));
  if (!fd || write(fd.get(), text.data(), text.size()) < 0)
    return errno_error(std::string("write ") + path);
  return {};
}

Status become_switch(const Lab& lab, int self) {
  if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) return errno_error("make the switch's namespaces");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return errno_error("make mounts private");
  const std::string disks = lab_dir(lab.spec.name) + "/disk";
  if (mount("moslab-disk", disks.c_str(), "tmpfs", 0, "mode=0755") != 0)
    return errno_error("mount " + disks);
  return become(self, kSwitchRole);
}

/// Pid 1 of a node, from its first instruction in the new pid namespace on.
Status become_init(const Lab& lab, int index, int self) {
  const std::string name = node_name(index);
  if (sethostname(name.data(), name.size()) != 0) return errno_error("set the host name");
  DROVER_CHECK(enter_new_root(lab, index));
  return become(self, kInitRole);
}

/// The process between moslab and a node's init: enters the groups and makes the namespaces, and
/// so decides what its child, the init, is born into. Writes that child's pid to `pid_out`.
Status make_node(const Lab& lab, int index, int self, const Verdict& verdict, int pid_out) {
  DROVER_CHECK(lab.cgroups().found_namespace(node_name(index)));
  if (unshare(kNodeNamespaces) != 0) return errno_error("make the node's namespaces");
  DROVER_CHECK(write_own("/proc/self/timens_offsets", clock_offsets(index)));
  const pid_t init = fork();
  if (init < 0) return errno_error("fork the node's init");
  if (init == 0) {
    detach();
    verdict.fail(become_init(lab, index, self).error());
  }
  if (write(pid_out, &init, sizeof init) != sizeof init) return errno_error("tell the init's pid");
  return {};
}

/// Forks a child that does `work`, and waits until the child and all it left behind has either
/// become another program or said why not.
Result<pid_t> supervise(Verdict verdict, const std::function<Status(const Verdict&)>& work) {
  const pid_t child = fork();
  if (child < 0) return errno_error("fork");
  if (child == 0) {
    verdict.read_end.reset();
    if (Status done = work(verdict); !done) verdict.fail(done.error());
    _exit(0);
  }
  DROVER_CHECK(verdict.wait());
  return child;
}

}  // namespace

std::string clock_offsets(int index) {
  const long seconds = index * (7 * 60 + 13);
  const std::string offset = std::to_string(seconds) + " " + std::to_string(index * 1000003);
  return "monotonic " + offset + "\nboottime " + std::to_string(seconds + index * 60) + " 0\n";
}

Status start_switch(Lab& lab) {
  const std::string disks = lab_dir(lab.spec.name) + "/disk";
  if (mkdir(disks.c_str(), 0700) != 0) return errno_error("mkdir " + disks);
  DROVER_TRY(OwnedFd self, open_self());
  DROVER_TRY(Verdict verdict, Verdict::open());
  DROVER_TRY(pid_t child, supervise(std::move(verdict), [&](const Verdict&) {
               detach();
               return become_switch(lab, self.get());
             }));
  DROVER_TRY(lab.switch_process, name_process(child));
  return create_switch(lab);
}

Status enter_disks(const Lab& lab) {
  auto target = open_process(lab.switch_process);
  if (!target) return refusal("lab " + lab.spec.name + ": its switch is gone; moslab down");
  if (setns(target->get(), CLONE_NEWNS) != 0) return errno_error("enter the lab's disks");
  return {};
}

Status boot_node(Lab& lab, int index) {
  const std::string name = node_name(index);
  const double cpus =
      lab.spec.cpus.empty() ? 0 : lab.spec.cpus[static_cast<std::size_t>(index - 1)];
  DROVER_CHECK(lab.cgroups().create_node(name, cpus));
  DROVER_TRY(OwnedFd self, open_self());
  DROVER_TRY(Verdict verdict, Verdict::open());
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return errno_error("pipe");
  OwnedFd pid_in(fds[0]), pid_out(fds[1]);
  auto between = supervise(std::move(verdict), [&](const Verdict& v) {
    return make_node(lab, index, self.get(), v, pid_out.get());
  });
  if (!between) return between.error().within("boot " + name);
  waitpid(*between, nullptr, 0);
  pid_t init = 0;
  if (read(pid_in.get(), &init, sizeof init) != sizeof init)
    return refusal("boot " + name + ": its init did not start");
  DROVER_TRY(lab.inits[index], name_process(init));
  DROVER_CHECK(connect_node(lab, index));
  for (const Cut& cut : lab.cuts) {
    if (cut.first == index || cut.second == index) DROVER_CHECK(cut_link(lab, cut));
  }
  return {};
}

Status power_cut(Lab& lab, int index) {
  const std::string name = node_name(index);
  auto init = open_process(lab.inits[index]);
  if (!init) return refusal(name + ": it is off already");
  DROVER_CHECK(disconnect_node(lab, index));
  syscall(SYS_pidfd_send_signal, init->get(), SIGKILL, nullptr, 0);
  DROVER_CHECK(lab.cgroups().kill_node(name));
  // All of a pid namespace is gone when its init is.
  pollfd polled{init->get(), POLLIN, 0};
  if (poll(&polled, 1, kDeathPatienceMs) != 1) return refusal(name + ": its init does not die");
  lab.inits.erase(index);
  return lab.cgroups().remove_node(name);
}

int run_init() {
  prctl(PR_SET_NAME, kInitRole);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  for (;;) {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    sigwaitinfo(&child, nullptr);
  }
}

int run_switch() {
  prctl(PR_SET_NAME, kSwitchRole);
  for (;;) pause();
}

}  // namespace drover::moslab
