#include "migrate/sandbox.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "migrate/sandbox_init.h"

namespace drover {

namespace {

using sandbox_init::Reply;
using sandbox_init::Request;

constexpr std::uint64_t kNamespaces = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET |
                                      CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
/// How long init may take over one request. It waits for nobody, so more than this is a fault.
constexpr timeval kInitPatience{10, 0};

Status check_spec(const SandboxSpec& spec) {
  constexpr std::uint32_t kNoId = UINT32_MAX;  // (uid_t)-1 means "unchanged"
  if (spec.job_uid == kNoId || spec.job_gid == kNoId) return refusal("sandbox: no such job id");
  if (spec.outer_uid == 0 || spec.outer_uid >= kNoId - 1) {
    return refusal("sandbox: uid " + std::to_string(spec.outer_uid) + " cannot be thrown away");
  }
  if (geteuid() != spec.outer_uid || getegid() != spec.outer_uid) {
    return refusal("sandbox: the guest runs as uid " + std::to_string(geteuid()) + ", gid " +
                   std::to_string(getegid()) + ", not as " + std::to_string(spec.outer_uid));
  }
  return {};
}

Result<std::pair<OwnedFd, OwnedFd>> socket_pair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    return errno_error("socketpair");
  }
  return std::pair(OwnedFd(ends[0]), OwnedFd(ends[1]));
}

/// One page of our own data and, if `fd` is one, a descriptor.
Status send_with_fd(const OwnedFd& socket, const void* data, std::size_t size, int fd) {
  iovec part{const_cast<void*>(data), size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  if (sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0) return errno_error("sendmsg");
  return {};
}

/// Init's answer; the process is empty when the answer carries none.
Result<Sandbox::Process> receive_reply(const OwnedFd& control) {
  Reply reply;
  iovec part{&reply, sizeof reply};
  alignas(cmsghdr) char space[CMSG_SPACE(3 * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  ssize_t n;
  do {
    n = recvmsg(control.get(), &message, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return errno == EAGAIN ? refusal("init does not answer") : errno_error("init");
  Sandbox::Process process;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials;
      std::memcpy(&credentials, CMSG_DATA(c), sizeof credentials);
      process.pid = credentials.pid;
    } else if (c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(3 * sizeof(int))) {
      int fds[3];
      std::memcpy(fds, CMSG_DATA(c), sizeof fds);
      process.pidfd.reset(fds[0]);
      process.pagemap.reset(fds[1]);
      process.mem.reset(fds[2]);
    }
  }
  if (n != sizeof reply) return refusal("init has ended");
  reply.what[sizeof reply.what - 1] = '\0';
  if (reply.error != 0) return Error{reply.error, reply.what};
  return process;
}

Status write_file(const std::string& path, const std::string& text) {
  const OwnedFd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || write(file.get(), text.data(), text.size()) < 0) return errno_error(path);
  return {};
}

/// Two lines: the job's id is ours outside, init's is the next one.
Status write_map(pid_t init, const char* name, std::uint32_t job_id, std::uint32_t outer_id) {
  return write_file("/proc/" + std::to_string(init) + "/" + name,
                    std::to_string(job_id) + " " + std::to_string(outer_id) + " 1\n" +
                        std::to_string(sandbox_init::id_beside(job_id)) + " " +
                        std::to_string(outer_id + 1) + " 1\n");
}

/// Starts init; it waits for its id maps. `ours` is closed in it, as everything is.
Result<pid_t> start_init(const SandboxSpec& spec, OwnedFd theirs, OwnedFd& pidfd) {
  // The files of init in proc, which hold the maps, belong to us only if it is dumpable.
  const int dumpable = prctl(PR_GET_DUMPABLE);
  prctl(PR_SET_DUMPABLE, 1);
  // A signal must not find its handler in the copy; init unblocks them when all are default.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  auto init = sandbox_init::clone_process(kNamespaces, SIGCHLD, pidfd, {});
  if (init && *init == 0) sandbox_init::run(spec, std::move(theirs));
  sigprocmask(SIG_SETMASK, &before, nullptr);
  prctl(PR_SET_DUMPABLE, dumpable);
  return init;
}

}  // namespace

Result<Sandbox> Sandbox::create(const SandboxSpec& spec) {
  DROVER_CHECK(check_spec(spec));
  DROVER_TRY(auto sockets, socket_pair());
  const int on = 1;
  setsockopt(sockets.first.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  setsockopt(sockets.first.get(), SOL_SOCKET, SO_RCVTIMEO, &kInitPatience, sizeof kInitPatience);

  OwnedFd pidfd;
  const auto init = start_init(spec, std::move(sockets.second), pidfd);
  if (!init) return init.error().within("sandbox");
  Sandbox sandbox(*init, std::move(pidfd), std::move(sockets.first));
  const auto finish = [&]() -> Status {
    DROVER_CHECK(write_map(*init, "uid_map", spec.job_uid, spec.outer_uid));
    DROVER_CHECK(write_map(*init, "gid_map", spec.job_gid, spec.outer_uid));
    auto ready = sandbox.ask(sandbox_init::kSetUp, 0, -1);
    if (!ready) return ready.error();
    return {};
  };
  if (const Status status = finish(); !status) return status.error().within("sandbox");
  return sandbox;
}

Result<Sandbox::Process> Sandbox::ask(std::int32_t kind, pid_t pid_inside, int passed_fd) {
  const Request request{kind, pid_inside};
  DROVER_CHECK(send_with_fd(control_, &request, sizeof request, passed_fd));
  DROVER_TRY(Process process, receive_reply(control_));
  process.pid_inside = pid_inside;
  if (kind != sandbox_init::kSetUp && (!process.mem || process.pid <= 0)) {
    return refusal("init's answer lacks descriptors");
  }
  return process;
}

Result<Sandbox::Blank> Sandbox::make_blank(pid_t pid_inside) {
  const std::string doing = "sandbox: make process " + std::to_string(pid_inside);
  auto sockets = socket_pair();
  if (!sockets) return sockets.error().within(doing);
  auto process = ask(sandbox_init::kMakeBlank, pid_inside, sockets->second.get());
  if (!process) return process.error().within(doing);
  return Blank{*std::move(process), std::move(sockets->first)};
}

Result<Sandbox::Process> Sandbox::open_process(pid_t pid_inside) {
  auto process = ask(sandbox_init::kOpenProcess, pid_inside, -1);
  if (!process)
    return process.error().within("sandbox: open process " + std::to_string(pid_inside));
  return process;
}

Status Sandbox::Blank::pass(const OwnedFd& fd) const {
  const char byte = 0;
  auto status = send_with_fd(socket, &byte, sizeof byte, fd.get());
  if (!status) return status.error().within("pass a descriptor into a body");
  return {};
}

void Sandbox::destroy() {
  if (init_ == 0) return;
  const pid_t init = std::exchange(init_, 0);
  control_.reset();
  syscall(SYS_pidfd_send_signal, init_pidfd_.get(), SIGKILL, nullptr, 0);
  // Init ends only when every process in it is reaped, and those that we trace are ours to reap,
  // threads included: waiting for init alone would wait forever. An init that failed early is
  // not in its own group yet, but has no children either.
  while (true) {
    int status = 0;
    const bool grouped = getpgid(init) == init;
    const pid_t reaped = waitpid(grouped ? -init : init, &status, __WALL);
    if (reaped < 0 && errno == EINTR) continue;
    if (reaped < 0 || (reaped == init && !WIFSTOPPED(status))) break;
    // A stop on the way out (PTRACE_EVENT_EXIT) must not hold it.
    if (WIFSTOPPED(status)) ptrace(PTRACE_CONT, reaped, nullptr, nullptr);
  }
  init_pidfd_.reset();
}

Sandbox::Sandbox(Sandbox&& other) noexcept
    : init_(std::exchange(other.init_, 0)),
      init_pidfd_(std::move(other.init_pidfd_)),
      control_(std::move(other.control_)) {}

Sandbox& Sandbox::operator=(Sandbox&& other) noexcept {
  if (this != &other) {
    destroy();
    init_ = std::exchange(other.init_, 0);
    init_pidfd_ = std::move(other.init_pidfd_);
    control_ = std::move(other.control_);
  }
  return *this;
}

}  // namespace drover
