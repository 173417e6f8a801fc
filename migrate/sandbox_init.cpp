#include "migrate/sandbox_init.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <csignal>
#include <cstdio>

#include "remote-syscall/body_messages.h"

namespace drover::sandbox_init {

namespace {

// Where the processes of a sandbox keep their few descriptors while they set themselves up.
constexpr int kInitControl = 3;
constexpr int kStaging = 32;
constexpr int kBlankFailure = Sandbox::kBlankSocket - 1;

Status check(long result, const char* what) {
  if (result < 0) return errno_error(what);
  return {};
}

Reply reply_of(const Status& status) {
  Reply reply;
  if (status) return reply;
  reply.error = status.error().code ? status.error().code : EPROTO;
  std::snprintf(reply.what, sizeof reply.what, "%s", status.error().what.c_str());
  return reply;
}

/// Closes everything but the descriptors of `kept`, which are moved to the given numbers.
/// The numbers must be ascending.
Status keep_only(std::span<const std::pair<int, int>> kept) {
  // First out of the way of each other, then into place; but below 64, so that a blank's
  // descriptor table stays the small one inside the kernel's structure.
  std::array<int, 4> staged{};
  for (std::size_t i = 0; i < kept.size(); ++i) {
    staged[i] = fcntl(kept[i].first, F_DUPFD, kStaging);
    DROVER_CHECK(check(staged[i], "F_DUPFD"));
  }
  for (std::size_t i = 0; i < kept.size(); ++i) {
    DROVER_CHECK(check(dup2(staged[i], kept[i].second), "dup2"));
  }
  unsigned next = 0;
  for (const auto& [from, to] : kept) {
    const auto number = static_cast<unsigned>(to);
    if (number > next) DROVER_CHECK(check(close_range(next, number - 1, 0), "close_range"));
    next = number + 1;
  }
  return check(close_range(next, UINT_MAX, 0), "close_range");
}

/// Takes an id inside that the maps allow. The caller has SECBIT_NO_SETUID_FIXUP, so that this
/// changes no capability.
Status take_ids(std::uint32_t uid, std::uint32_t gid) {
  DROVER_CHECK(check(setgroups(0, nullptr), "setgroups"));
  // Not the C library's functions: those would signal threads that this copy does not have.
  DROVER_CHECK(check(syscall(SYS_setresgid, gid, gid, gid), "setresgid"));
  return check(syscall(SYS_setresuid, uid, uid, uid), "setresuid");
}

/// A new mount of `type` that is attached nowhere. Its directory is the descriptor.
Result<OwnedFd> mount_detached(const char* type,
                               std::span<const std::pair<const char*, const char*>> options,
                               unsigned attributes) {
  const OwnedFd context(fsopen(type, FSOPEN_CLOEXEC));
  DROVER_CHECK(check(context.get(), "fsopen"));
  for (const auto& [key, value] : options) {
    DROVER_CHECK(check(fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0), key));
  }
  DROVER_CHECK(check(fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), type));
  OwnedFd mount(fsmount(context.get(), FSMOUNT_CLOEXEC, attributes));
  DROVER_CHECK(check(mount.get(), type));
  return mount;
}

/// Leaves the node's files behind: an empty root that nobody can write to. Gives the directory of
/// a proc that shows this pid namespace and is attached nowhere, for init alone.
Result<OwnedFd> empty_root() {
  constexpr unsigned kNothing = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  DROVER_CHECK(check(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make / private"));
  // While the node's own proc can be seen; without it the kernel would refuse.
  auto proc = mount_detached("proc", {}, kNothing);
  if (!proc) return proc.error().within("mount proc");
  constexpr std::array<std::pair<const char*, const char*>, 3> kOptions{
      {{"mode", "0555"}, {"size", "4k"}, {"nr_inodes", "1"}}};
  auto root = mount_detached("tmpfs", kOptions, kNothing | MOUNT_ATTR_RDONLY);
  if (!root) return root.error().within("mount root");
  // The new root goes on top of the old one, then below it, and the old one is taken away.
  DROVER_CHECK(
      check(move_mount(root->get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "move_mount"));
  DROVER_CHECK(check(fchdir(root->get()), "fchdir"));
  DROVER_CHECK(check(syscall(SYS_pivot_root, ".", "."), "pivot_root"));
  DROVER_CHECK(check(umount2(".", MNT_DETACH), "umount old root"));
  DROVER_CHECK(check(chdir("/"), "chdir"));
  return proc;
}

std::string offset_line(const char* clock, std::int64_t ns) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  std::int64_t seconds = ns / kSecond, rest = ns % kSecond;
  if (rest < 0) {  // the kernel wants 0 <= nanoseconds < 1 s
    rest += kSecond;
    seconds -= 1;
  }
  return std::string(clock) + " " + std::to_string(seconds) + " " + std::to_string(rest) + "\n";
}

/// The time namespace that init's children are born into.
Status set_clocks(const SandboxSpec& spec, const OwnedFd& proc) {
  DROVER_CHECK(check(unshare(CLONE_NEWTIME), "unshare time"));
  const OwnedFd file(openat(proc.get(), "self/timens_offsets", O_WRONLY | O_CLOEXEC));
  DROVER_CHECK(check(file.get(), "open timens_offsets"));
  const std::string lines = offset_line("monotonic", spec.monotonic_offset_ns) +
                            offset_line("boottime", spec.boottime_offset_ns);
  return check(write(file.get(), lines.data(), lines.size()), "set clock offsets");
}

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

/// What making blanks and opening their files needs, and answering with a translated pid.
constexpr std::uint64_t kInitCapabilities =
    bit(CAP_SETUID) | bit(CAP_SETGID) | bit(CAP_SETPCAP) | bit(CAP_SYS_ADMIN) |
    bit(CAP_SYS_PTRACE) | bit(CAP_DAC_OVERRIDE) | bit(CAP_KILL) | bit(CAP_CHECKPOINT_RESTORE);

Result<OwnedFd> set_up(const SandboxSpec& spec) {
  reset_signals();
  // An ignored SIGCHLD reaps whatever dies in here, orphans included.
  signal(SIGCHLD, SIG_IGN);
  DROVER_CHECK(check(setsid(), "setsid"));
  DROVER_CHECK(check(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP), "securebits"));
  DROVER_CHECK(take_ids(id_beside(spec.job_uid), id_beside(spec.job_gid)));
  // The change of ids took this away, and one's own files in proc need it.
  DROVER_CHECK(check(prctl(PR_SET_DUMPABLE, 1), "set dumpable"));
  DROVER_CHECK(check(sethostname(spec.host_name.data(), spec.host_name.size()), "set host name"));
  DROVER_CHECK(
      check(setdomainname(spec.domain_name.data(), spec.domain_name.size()), "set domain name"));
  DROVER_TRY(OwnedFd proc, empty_root());
  DROVER_CHECK(set_clocks(spec, proc));
  DROVER_CHECK(forbid_core_dumps());
  DROVER_CHECK(check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs"));
  DROVER_CHECK(keep_capabilities(kInitCapabilities));
  DROVER_CHECK(check(prctl(PR_SET_DUMPABLE, 0), "unset dumpable"));
  // After the last change of credentials, which would clear it. A guest that is gone already is
  // noticed by the end of the control socket.
  DROVER_CHECK(check(prctl(PR_SET_PDEATHSIG, SIGKILL), "pdeathsig"));
  return proc;
}

Result<Request> next_request(OwnedFd& passed) {
  Request request;
  iovec data{&request, sizeof request};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(kInitControl, &message, MSG_CMSG_CLOEXEC);
  if (n < 0) return errno_error("recvmsg");
  if (n != sizeof request) return refusal("end of requests");
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    int fd;
    std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
    passed.reset(fd);
  }
  return request;
}

struct Answer {
  OwnedFd pidfd, pagemap, mem;
};

void send_reply(const Status& status, const Answer& answer, pid_t pid) {
  Reply reply = reply_of(status);
  iovec data{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(3 * sizeof(int)) + CMSG_SPACE(sizeof(ucred))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (status && answer.pidfd) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(3 * sizeof(int));
    const int fds[3] = {answer.pidfd.get(), answer.pagemap.get(), answer.mem.get()};
    std::memcpy(CMSG_DATA(part), fds, sizeof fds);
    part = CMSG_NXTHDR(&message, part);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_CREDENTIALS;
    part->cmsg_len = CMSG_LEN(sizeof(ucred));
    const ucred credentials{pid, getuid(), getgid()};
    std::memcpy(CMSG_DATA(part), &credentials, sizeof credentials);
  }
  if (sendmsg(kInitControl, &message, MSG_NOSIGNAL) == sizeof reply) return;
  // The descriptors or the credentials were refused: say that much, or end with the guest.
  reply = reply_of(errno_error("answer the guest"));
  if (send(kInitControl, &reply, sizeof reply, MSG_NOSIGNAL) < 0) _exit(1);
}

Status open_files(const OwnedFd& proc, pid_t pid, Answer& answer) {
  const std::string directory = std::to_string(pid) + "/";
  answer.pagemap.reset(openat(proc.get(), (directory + "pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  DROVER_CHECK(check(answer.pagemap.get(), "open pagemap"));
  answer.mem.reset(openat(proc.get(), (directory + "mem").c_str(), O_RDWR | O_CLOEXEC));
  return check(answer.mem.get(), "open mem");
}

Status make_blank(const SandboxSpec& spec, const OwnedFd& proc, pid_t pid, OwnedFd& socket,
                  Answer& answer) {
  if (!socket) return refusal("no socket for the blank");
  int ends[2];
  DROVER_CHECK(check(pipe2(ends, O_CLOEXEC), "pipe"));
  OwnedFd failure(ends[0]), failure_of_blank(ends[1]);
  const pid_t set_tid[] = {pid};
  DROVER_TRY(const pid_t child, clone_process(0, SIGCHLD, answer.pidfd, set_tid));
  if (child == 0) run_blank(spec, std::move(socket), std::move(failure_of_blank));
  failure_of_blank.reset();
  Reply failed;
  const ssize_t n = read(failure.get(), &failed, sizeof failed);
  Status status = check(n, "read from the blank");
  if (n > 0) status = Error{failed.error, failed.what};
  if (status) status = open_files(proc, pid, answer);
  if (!status) kill(pid, SIGKILL);
  return status;
}

Status open_process(const OwnedFd& proc, pid_t pid, Answer& answer) {
  answer.pidfd.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  DROVER_CHECK(check(answer.pidfd.get(), "pidfd_open"));
  return open_files(proc, pid, answer);
}

}  // namespace

void run(const SandboxSpec& spec, OwnedFd control) {
  const std::pair<int, int> kept[] = {{control.release(), kInitControl}};
  OwnedFd passed;
  if (!keep_only(kept) || !next_request(passed)) _exit(1);
  auto proc = set_up(spec);
  send_reply(proc ? Status{} : Status{proc.error()}, {}, 0);
  if (!proc) _exit(1);
  while (true) {
    const auto request = next_request(passed);
    if (!request) _exit(0);
    Answer answer;
    Status status = refusal("unknown request");
    if (request->kind == kMakeBlank) {
      status = make_blank(spec, *proc, request->pid, passed, answer);
    } else if (request->kind == kOpenProcess) {
      status = open_process(*proc, request->pid, answer);
    }
    passed.reset();
    send_reply(status, answer, request->pid);
  }
}

void run_blank(const SandboxSpec& spec, OwnedFd socket, OwnedFd failure) {
  const auto become = [&]() -> Status {
    const std::pair<int, int> kept[] = {{failure.release(), kBlankFailure},
                                        {socket.release(), Sandbox::kBlankSocket}};
    DROVER_CHECK(keep_only(kept));
    reset_signals();
    DROVER_CHECK(take_ids(spec.job_uid, spec.job_gid));
    DROVER_CHECK(check(prctl(PR_SET_SECUREBITS, 0), "securebits"));
    DROVER_CHECK(keep_capabilities(bit(CAP_CHECKPOINT_RESTORE)));
    // The guest has no capability in the namespace of the program that it is a copy of: it may
    // trace only what is dumpable. Core dumps are forbidden by their limit instead.
    return check(prctl(PR_SET_DUMPABLE, 1), "set dumpable");
  };
  if (const Status status = become(); !status) {
    const Reply reply = reply_of(status);
    const ssize_t n = write(kBlankFailure, &reply, sizeof reply);
    _exit(n == sizeof reply ? 1 : 2);
  }
  close(kBlankFailure);
  while (true) pause();
}

Status keep_capabilities(std::uint64_t mask) {
  DROVER_CHECK(check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "clear ambient"));
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  for (int i = 0; i < 2; ++i) {
    data[i].permitted = data[i].effective = static_cast<std::uint32_t>(mask >> (32 * i));
  }
  return check(syscall(SYS_capset, &header, data), "capset");
}

void reset_signals() {
  // Not by the C library, which keeps its hands over two signals of its own: their handlers would
  // stay in a blank, whose memory is soon another's.
  constexpr KernelSigaction kDefault{};
  for (int number = 1; number <= kSignalCount; ++number) {
    syscall(SYS_rt_sigaction, number, &kDefault, nullptr, sizeof(SignalMask));
  }
  constexpr SignalMask kNone = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &kNone, nullptr, sizeof kNone);
}

Status forbid_core_dumps() {
  // Not 0: core(5) patterns that name a program ignore every limit but 1 byte, which no core
  // fits into either.
  const rlimit limit{1, 1};
  return check(setrlimit(RLIMIT_CORE, &limit), "limit core dumps");
}

Result<pid_t> clone_process(std::uint64_t flags, int exit_signal, OwnedFd& pidfd,
                            std::span<const pid_t> set_tid) {
  int fd = -1;
  clone_args arguments{};
  arguments.flags = flags | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&fd);
  arguments.exit_signal = static_cast<std::uint64_t>(exit_signal);
  arguments.set_tid = set_tid.empty() ? 0 : reinterpret_cast<std::uint64_t>(set_tid.data());
  arguments.set_tid_size = set_tid.size();
  const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return errno_error("clone3");
  if (pid > 0) pidfd.reset(fd);
  return static_cast<pid_t>(pid);
}

}  // namespace drover::sandbox_init
