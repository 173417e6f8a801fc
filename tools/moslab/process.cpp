#include "tools/moslab/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>
#include <sstream>

namespace drover::moslab {
namespace {

struct Pipe {
  OwnedFd read_end;
  OwnedFd write_end;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return errno_error("pipe");
  return Pipe{OwnedFd(fds[0]), OwnedFd(fds[1])};
}

[[noreturn]] void run_child(const std::vector<std::string>& argv, const CommandOptions& options,
                            int in, int out, int err) {
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  auto give_up = [&](const std::string& why) {
    dprintf(STDERR_FILENO, "%s\n", why.c_str());
    _exit(127);
  };
  if (options.prepare) {
    if (Status prepared = options.prepare(); !prepared) give_up(prepared.error().message());
  }
  if (options.working_dir && chdir(options.working_dir->c_str()) != 0)
    give_up(errno_error("chdir " + *options.working_dir).message());
  std::vector<char*> args;
  for (const std::string& arg : argv) args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  execvp(args[0], args.data());
  give_up(errno_error(argv[0]).message());
  _exit(127);
}

/// Feeds `input` and drains both outputs at once, so that no pipe can fill up and block.
void exchange(const std::string& input, OwnedFd in, OwnedFd out, OwnedFd err, CommandOutput& into) {
  fcntl(in.get(), F_SETFL, O_NONBLOCK);
  std::size_t written = 0;
  if (input.empty()) in.reset();
  while (out.valid() || err.valid()) {
    std::array<pollfd, 3> polled = {pollfd{in.get(), POLLOUT, 0}, pollfd{out.get(), POLLIN, 0},
                                    pollfd{err.get(), POLLIN, 0}};
    if (poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
    if (in.valid() && polled[0].revents) {
      const ssize_t n = write(in.get(), input.data() + written, input.size() - written);
      if (n > 0) written += static_cast<std::size_t>(n);
      if ((n < 0 && errno != EAGAIN) || written == input.size()) in.reset();
    }
    auto drain = [](OwnedFd& fd, short revents, std::string& text) {
      if (!fd.valid() || !revents) return;
      char buffer[4096];
      const ssize_t n = read(fd.get(), buffer, sizeof buffer);
      if (n > 0) text.append(buffer, static_cast<std::size_t>(n));
      if (n == 0 || (n < 0 && errno != EINTR)) fd.reset();
    };
    drain(out, polled[1].revents, into.out);
    drain(err, polled[2].revents, into.err);
  }
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

Result<ProcessName> name_process(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  // The second field is the command in parentheses and may hold anything, so count from its end.
  const auto end = text.rfind(')');
  if (end == std::string::npos) return Error{ESRCH, "look at process " + std::to_string(pid)};
  std::istringstream fields(text.substr(end + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  return ProcessName{pid, std::stoull(field)};
}

std::optional<OwnedFd> open_process(const ProcessName& process) {
  if (process.pid <= 0) return std::nullopt;
  OwnedFd fd(static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0)));
  if (!fd) return std::nullopt;
  auto now = name_process(process.pid);
  if (!now || now->start_ticks != process.start_ticks) return std::nullopt;
  // A zombie can still be opened, but it has no namespaces any more.
  pollfd polled{fd.get(), POLLIN, 0};
  if (poll(&polled, 1, 0) == 1) return std::nullopt;
  return fd;
}

Result<CommandOutput> run_command(const std::vector<std::string>& argv,
                                  const CommandOptions& options) {
  DROVER_TRY(Pipe in, make_pipe());
  DROVER_TRY(Pipe out, make_pipe());
  DROVER_TRY(Pipe err, make_pipe());
  const pid_t child = fork();
  if (child < 0) return errno_error("fork for " + argv[0]);
  if (child == 0)
    run_child(argv, options, in.read_end.get(), out.write_end.get(), err.write_end.get());
  in.read_end.reset();
  out.write_end.reset();
  err.write_end.reset();
  CommandOutput result;
  exchange(options.input, std::move(in.write_end), std::move(out.read_end), std::move(err.read_end),
           result);
  while (waitpid(child, &result.status, 0) < 0) {
    if (errno != EINTR) return errno_error("wait for " + argv[0]);
  }
  return result;
}

Result<std::string> run_checked(const std::vector<std::string>& argv,
                                const CommandOptions& options) {
  DROVER_TRY(CommandOutput result, run_command(argv, options));
  if (WIFEXITED(result.status) && WEXITSTATUS(result.status) == 0) return result.out;
  std::string why = first_line(result.err.empty() ? result.out : result.err);
  if (WIFSIGNALED(result.status))
    why = "killed by signal " + std::to_string(WTERMSIG(result.status));
  else if (why.empty())
    why = "exit status " + std::to_string(WEXITSTATUS(result.status));
  return refusal(argv[0] + ": " + why);
}

Result<OwnedFd> open_self() {
  OwnedFd fd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_error("open /proc/self/exe");
  return fd;
}

Status become(int program, const std::string& role) {
  std::string name = role;
  char* argv[] = {name.data(), nullptr};
  char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  char* envp[] = {path, nullptr};
  syscall(SYS_execveat, program, "", argv, envp, AT_EMPTY_PATH);
  return errno_error("exec " + role);
}

}  // namespace drover::moslab
