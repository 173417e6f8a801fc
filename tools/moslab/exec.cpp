#include "tools/moslab/exec.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "tools/moslab/filesystem.h"

namespace drover::moslab {
namespace {

constexpr int kAllNamespaces = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC |
                               CLONE_NEWCGROUP | CLONE_NEWPID | CLONE_NEWTIME;
constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// What somebody may send to moslab and means for the command.
constexpr std::array kForwarded = {SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM, SIGUSR1,
                                   SIGUSR2, SIGALRM, SIGWINCH, SIGCONT};

/// How the command relates to the terminal.
enum class Terminal {
  kOwnSession,  ///< no terminal, or one that is free: a session of its own
  kForeground,  ///< our controlling terminal: a process group of its own in our session
  kShared,      ///< stdin is our terminal, stdout is not (a pipeline): our process group
};

Terminal choose_terminal() {
  // Only the controlling terminal has the caller's session.
  if (!isatty(STDIN_FILENO) || tcgetsid(STDIN_FILENO) != getsid(0)) return Terminal::kOwnSession;
  return isatty(STDOUT_FILENO) ? Terminal::kForeground : Terminal::kShared;
}

bool in_foreground() { return tcgetpgrp(STDIN_FILENO) == getpgrp(); }

/// Makes `group` the terminal's foreground group. SIGTTOU would stop a background caller.
void give_terminal(pid_t group) {
  sigset_t block, old;
  sigemptyset(&block);
  sigaddset(&block, SIGTTOU);
  sigprocmask(SIG_BLOCK, &block, &old);
  tcsetpgrp(STDIN_FILENO, group);
  sigprocmask(SIG_SETMASK, &old, nullptr);
}

Status become_user(uid_t uid) {
  // Looked up in the node: its /etc is its own.
  const passwd* entry = getpwuid(uid);
  const gid_t gid = entry ? entry->pw_gid : uid;
  const std::string name = entry ? entry->pw_name : std::to_string(uid);
  const std::string home =
      entry && std::filesystem::is_directory(entry->pw_dir) ? entry->pw_dir : "/";
  const bool named = entry != nullptr;
  if ((named ? initgroups(name.c_str(), gid) : setgroups(0, nullptr)) != 0 ||
      setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
    return errno_error("become user " + std::to_string(uid));
  setenv("HOME", home.c_str(), 1);
  setenv("USER", name.c_str(), 1);
  setenv("LOGNAME", name.c_str(), 1);
  return {};
}

/// Makes the calling child a session of its own, with the terminal that stdin is, if it is one.
void found_session() {
  setsid();
  // A terminal of no other session becomes ours; of another one it stays a mere stdin.
  if (isatty(STDIN_FILENO)) ioctl(STDIN_FILENO, TIOCSCTTY, 0);
}

[[noreturn]] void give_up(const Error& error, int status) {
  dprintf(STDERR_FILENO, "moslab: %s\n", error.message().c_str());
  _exit(status);
}

/// The child, already in the node's pid namespace: joins the rest and becomes the command once
/// the parent has placed it on the terminal, which it says by closing its end of `placed`.
[[noreturn]] void run_child(const Lab& lab, const ExecRequest& request, int init, Terminal terminal,
                            OwnedFd placed, const sigset_t& mask) {
  std::error_code ignored;
  const std::string cwd = std::filesystem::current_path(ignored);
  if (Status joined = lab.cgroups().join_node(node_name(request.node)); !joined)
    give_up(joined.error(), kExecFailed);
  if (setns(init, kAllNamespaces & ~CLONE_NEWPID) != 0)
    give_up(errno_error("enter " + node_name(request.node)), kExecFailed);
  if (terminal == Terminal::kOwnSession) found_session();
  char end = 0;
  while (read(placed.get(), &end, 1) < 0 && errno == EINTR) {
  }
  // Where the caller is, if the node has such a directory.
  if (cwd.empty() || chdir(cwd.c_str()) != 0) (void)!chdir("/");
  const char* path = std::getenv("PATH");
  setenv("PATH", (std::string(kNodeBin) + ":" + (path ? path : kDefaultPath)).c_str(), 1);
  if (request.user) {
    if (Status done = become_user(*request.user); !done) give_up(done.error(), kExecFailed);
  }
  std::vector<char*> argv;
  for (const std::string& arg : request.argv) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  execvp(argv[0], argv.data());
  give_up(errno_error(request.argv[0]), errno == ENOENT ? kNotFound : kNotExecutable);
}

/// Passes a signal on. One from the keyboard is for all of the command's group; in our own
/// session the terminal has sent it to the right group already.
void forward(const siginfo_t& info, pid_t child, Terminal terminal) {
  const bool from_kernel = info.si_code == SI_KERNEL;
  if (terminal == Terminal::kOwnSession && from_kernel) {
    kill(-child, info.si_signo);
  } else if (!from_kernel) {
    kill(child, info.si_signo);
  }
}

/// The command has stopped: so do we, for our shell to see, and when we are continued so is it.
void stop_along(pid_t child, bool& foreground) {
  if (foreground) give_terminal(getpgrp());
  kill(getpid(), SIGSTOP);
  foreground = in_foreground();
  if (foreground) give_terminal(child);
  kill(-child, SIGCONT);
}

int wait_for(pid_t child, Terminal terminal, bool foreground, const sigset_t& waited) {
  const bool job_control = terminal == Terminal::kForeground;
  for (;;) {
    int status = 0;
    while (waitpid(child, &status, WNOHANG | (job_control ? WUNTRACED : 0)) == child) {
      if (WIFSTOPPED(status)) {
        stop_along(child, foreground);
        continue;
      }
      if (foreground) give_terminal(getpgrp());
      return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    siginfo_t info{};
    if (sigwaitinfo(&waited, &info) > 0 && info.si_signo != SIGCHLD) forward(info, child, terminal);
  }
}

}  // namespace

Result<int> run_in_node(const Lab& lab, const ExecRequest& request) {
  const auto named = lab.inits.find(request.node);
  auto init = named == lab.inits.end() ? std::nullopt : open_process(named->second);
  if (!init) return refusal(node_name(request.node) + ": the node is off");

  sigset_t waited, mask;
  sigemptyset(&waited);
  sigaddset(&waited, SIGCHLD);
  for (const int signal : kForwarded) sigaddset(&waited, signal);
  sigprocmask(SIG_BLOCK, &waited, &mask);

  const Terminal terminal = choose_terminal();
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return errno_error("pipe");
  OwnedFd placed(fds[0]), place(fds[1]);
  // Children are born into that pid namespace from now on; this process stays where it is.
  if (setns(init->get(), CLONE_NEWPID) != 0) return errno_error("enter " + node_name(request.node));
  const pid_t child = fork();
  if (child < 0) return errno_error("fork");
  if (child == 0) {
    place.reset();
    run_child(lab, request, init->get(), terminal, std::move(placed), mask);
  }
  bool foreground = false;
  if (terminal == Terminal::kForeground) {
    setpgid(child, child);
    // Asked only now: a Ctrl-Z from the keyboard may have stopped this process until here.
    foreground = in_foreground();
    if (foreground) give_terminal(child);
  }
  place.reset();
  return wait_for(child, terminal, foreground, waited);
}

}  // namespace drover::moslab
