#include "migrate/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>

#include "migrate/sandbox.h"
#include "migrate/spawn_cgroup.h"

extern char** environ;

namespace drover {
namespace {

constexpr int kSocketFd = 3;
/// What a deputy may do beyond its own user, all of it for the process that it holds: trace it,
/// open its files in /proc (mem, pagemap and fd are closed to other users whatever ptrace would
/// allow), and end it.
constexpr int kDeputyCapabilities[] = {CAP_SYS_PTRACE, CAP_DAC_OVERRIDE, CAP_KILL};

/// Passed on: how to log, and how the sanitizers are set up.
constexpr const char* kInherited[] = {
    "PATH=",          "JOURNAL_STREAM=", "INVOCATION_ID=", "ASAN_OPTIONS=",
    "UBSAN_OPTIONS=", "TSAN_OPTIONS=",   "LSAN_OPTIONS="};

/// Everything the child needs, made before the fork: migrated has threads (ZeroMQ's), so the
/// child may not count on locks, and so not on memory, between fork and exec.
struct Launch {
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::vector<std::string> join;
  std::function<Status()> take_identity;
};

std::vector<std::string> child_environment(const SpawnSettings& settings) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry)
    for (const char* name : kInherited)
      if (std::strncmp(*entry, name, std::strlen(name)) == 0) environment.emplace_back(*entry);
  if (!settings.fault.empty()) environment.push_back("DROVER_FAULT=" + settings.fault);
  return environment;
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (const std::string& s : strings) list.push_back(const_cast<char*>(s.c_str()));
  list.push_back(nullptr);
  return list;
}

/// What went wrong in the child, as it comes through the pipe.
struct ChildError {
  int code = 0;
  char step[64] = {};
};

[[noreturn]] void give_up(int pipe, const char* step, int code) {
  ChildError error;
  error.code = code;
  std::strncpy(error.step, step, sizeof error.step - 1);
  [[maybe_unused]] const ssize_t n = ::write(pipe, &error, sizeof error);
  ::_exit(127);
}

/// Joining is a courtesy: a group that will not have the child does not stop it.
void join_groups(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    const int fd = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) continue;
    [[maybe_unused]] const ssize_t n = ::write(fd, "0", 1);
    ::close(fd);
  }
}

void reset_signals() {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
}

[[noreturn]] void run_child(const Launch& launch, char* const* arguments, char* const* environment,
                            int socket, int pipe, int program) {
  ::setsid();
  join_groups(launch.join);
  const int null = ::open("/dev/null", O_RDONLY);
  if (null < 0 || ::dup2(null, STDIN_FILENO) < 0) give_up(pipe, "/dev/null", errno);
  if (const Status taken = launch.take_identity(); !taken)
    give_up(pipe, taken.error().what.c_str(), taken.error().code);
  reset_signals();
  // The three descriptors that are still needed go to the places from 3 on.
  const int high_pipe = ::fcntl(pipe, F_DUPFD_CLOEXEC, 64);
  const int high_program = ::fcntl(program, F_DUPFD_CLOEXEC, 64);
  if (high_pipe < 0 || high_program < 0 || ::dup2(socket, kSocketFd) < 0)
    give_up(pipe, "descriptors", errno);
  if (socket == kSocketFd) ::fcntl(kSocketFd, F_SETFD, 0);
  ::syscall(SYS_close_range, kSocketFd + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  ::execve(launch.program.c_str(), arguments, environment);
  // The directory may be closed to the child's user: then by the descriptor.
  if (errno == EACCES)
    ::syscall(SYS_execveat, high_program, "", arguments, environment, AT_EMPTY_PATH);
  give_up(high_pipe, "exec", errno);
}

Result<Spawned> start(const Launch& launch) {
  DROVER_TRY(auto sockets, LocalSocket::pair());
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) < 0) return errno_error("pipe");
  OwnedFd reader(pipe_fds[0]);
  OwnedFd writer(pipe_fds[1]);
  OwnedFd program(::open(launch.program.c_str(), O_PATH | O_CLOEXEC));
  if (!program) return errno_error(launch.program);
  const std::vector<char*> arguments = pointers(launch.arguments);
  const std::vector<char*> environment = pointers(launch.environment);

  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("fork");
  if (pid == 0)
    run_child(launch, arguments.data(), environment.data(), sockets.second.fd(), writer.get(),
              program.get());
  writer.reset();
  ChildError error;
  ssize_t n;
  while ((n = ::read(reader.get(), &error, sizeof error)) < 0 && errno == EINTR) {
  }
  if (n == 0) return Spawned{pid, std::move(sockets.first)};  // closed by exec
  ::waitpid(pid, nullptr, 0);
  error.step[sizeof error.step - 1] = 0;
  return Error{error.code, launch.program + ": " + error.step};
}

/// Becomes the deputies' user, keeping the capabilities above through exec (capabilities(7),
/// "Ambient capability set").
Status become_deputy(uid_t uid, gid_t gid) {
  if (::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return errno_error("PR_SET_KEEPCAPS");
  if (::setgroups(0, nullptr) < 0) return errno_error("setgroups");
  if (::setresgid(gid, gid, gid) < 0) return errno_error("setresgid");
  if (::setresuid(uid, uid, uid) < 0) return errno_error("setresuid");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  for (const int capability : kDeputyCapabilities) data[0].permitted |= 1U << capability;
  data[0].effective = data[0].inheritable = data[0].permitted;
  if (::syscall(SYS_capset, &header, data) < 0) return errno_error("capset");
  for (const int capability : kDeputyCapabilities)
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0)
      return errno_error("PR_CAP_AMBIENT_RAISE");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return errno_error("PR_SET_NO_NEW_PRIVS");
  return {};
}

Launch launch_of(const SpawnSettings& settings, const char* name) {
  Launch launch;
  launch.program = settings.program_directory + "/" + name;
  launch.arguments = {name};
  launch.environment = child_environment(settings);
  return launch;
}

struct Ids {
  uid_t uid = 0;
  gid_t gid = 0;
};

Result<Ids> deputy_ids(const SpawnSettings& settings) {
  errno = 0;
  const passwd* user = ::getpwnam(settings.deputy_user.c_str());
  if (user == nullptr)
    return Error{errno, "deputy-user " + settings.deputy_user + ": no such user"};
  return Ids{user->pw_uid, user->pw_gid};
}

/// Becomes an ordinary user: what root could do goes with its uid.
Status become(Ids user) {
  if (::setgroups(0, nullptr) < 0) return errno_error("setgroups");
  if (::setresgid(user.gid, user.gid, user.gid) < 0) return errno_error("setresgid");
  if (::setresuid(user.uid, user.uid, user.uid) < 0) return errno_error("setresuid");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return errno_error("PR_SET_NO_NEW_PRIVS");
  return {};
}

/// A directory of that user's alone. One that is there already is left as it is.
Status make_directory_of(Ids user, const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(directory).parent_path(), error);
  if (::mkdir(directory.c_str(), 0700) < 0)
    return errno == EEXIST ? Status{} : Status(errno_error("mkdir " + directory));
  if (::chown(directory.c_str(), user.uid, user.gid) < 0) return errno_error("chown " + directory);
  return {};
}

}  // namespace

Result<std::string> own_program_directory() {
  std::array<char, 4096> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (size < 0) return errno_error("/proc/self/exe");
  const std::string program(path.data(), static_cast<std::size_t>(size));
  return program.substr(0, program.rfind('/'));
}

Result<Spawned> spawn_deputy(const SpawnSettings& settings, pid_t job) {
  DROVER_TRY(const Ids user, deputy_ids(settings));
  Launch launch = launch_of(settings, "deputy");
  launch.arguments.push_back(settings.node);
  // Where the job's CPU time is accounted and limited, its deputy's is as well.
  if (const auto groups = cgroups_of(job))
    for (const CgroupDirectory& group : *groups)
      launch.join.push_back(group.path + "/cgroup.procs");
  launch.take_identity = [user] { return become_deputy(user.uid, user.gid); };
  return start(launch);
}

Result<Spawned> spawn_guest(const SpawnSettings& settings, uid_t outer_uid,
                            const std::vector<std::string>& join) {
  Launch launch = launch_of(settings, "guest");
  launch.join = join;
  launch.arguments.push_back(settings.guest_root);
  launch.take_identity = [outer_uid, root = settings.guest_root]() -> Status {
    DROVER_CHECK(make_guest_root(root));
    return enter_guest_identity(outer_uid);
  };
  return start(launch);
}

Result<Spawned> spawn_content_keeper(const SpawnSettings& settings, const std::string& directory,
                                     std::uint64_t limit_bytes) {
  DROVER_TRY(const Ids user, deputy_ids(settings));
  DROVER_CHECK(make_directory_of(user, directory));
  Launch launch = launch_of(settings, "contentd");
  launch.arguments.push_back(directory);
  launch.arguments.push_back(std::to_string(limit_bytes));
  launch.take_identity = [user] { return become(user); };
  return start(launch);
}

}  // namespace drover
