#include "migrate/jobs_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "common/owned_fd.h"

namespace drover {
namespace {

constexpr unsigned long kKernelThreadFlag = 0x00200000;  // PF_KTHREAD of linux/sched.h

Result<std::string> read_small_file(const std::string& path) {
  OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_error(path);
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n == 0) return text;
    if (n > 0)
      text.append(buffer, static_cast<std::size_t>(n));
    else if (errno != EINTR)
      return errno_error(path);
  }
}

template <class T>
bool parse_number(std::string_view text, T& value, int base = 10) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return code == std::errc() && end == text.data() + text.size();
}

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> found;
  std::size_t at = 0;
  while ((at = text.find_first_not_of(" \t\n", at)) != std::string_view::npos) {
    const std::size_t end = std::min(text.find_first_of(" \t\n", at), text.size());
    found.push_back(text.substr(at, end - at));
    at = end;
  }
  return found;
}

template <class T>
bool parse_four(const std::vector<std::string_view>& values, std::array<T, 4>& out) {
  if (values.size() < 4) return false;
  for (std::size_t i = 0; i < 4; ++i)
    if (!parse_number(values[i], out[i])) return false;
  return true;
}

/// One "Name: values" line; false if it is one of ours and malformed.
bool take_status_line(std::string_view name, const std::vector<std::string_view>& values,
                      ProcessStatus& process) {
  if (name == "Uid") return parse_four(values, process.uids);
  if (name == "Gid") return parse_four(values, process.gids);
  if (name == "NSpid") return process.nested = values.size() > 1, true;
  if (values.empty()) return true;
  std::uint64_t kib = 0;
  if (name == "Threads") return parse_number(values[0], process.threads);
  if (name == "TracerPid") return parse_number(values[0], process.tracer);
  if (name == "Seccomp") return parse_number(values[0], process.seccomp);
  if (name == "CapPrm") return parse_number(values[0], process.permitted_capabilities, 16);
  if (name == "VmRSS") {
    if (!parse_number(values[0], kib)) return false;
    process.rss_bytes = kib << 10;
  }
  if (name == "VmSwap") {
    if (!parse_number(values[0], kib)) return false;
    process.swap_bytes = kib << 10;
  }
  return true;
}

/// The files of a process that is not dumpable belong to root (task_dump_owner in the kernel's
/// fs/proc/base.c). Of root's own processes this cannot be told from outside.
bool looks_dumpable(const std::string& directory, uid_t effective) {
  struct stat status {};
  if (::stat((directory + "/status").c_str(), &status) < 0) return true;
  return status.st_uid == effective;
}

std::string read_confinement(const std::string& directory) {
  // Of the LSMs with profiles, AppArmor is the one that answers here; "unconfined" is none.
  for (const char* file : {"/attr/apparmor/current", "/attr/current"}) {
    const auto text = read_small_file(directory + file);
    if (!text) continue;
    const auto found = words(*text);
    std::string label(found.empty() ? "" : found[0]);
    if (label.empty() || label == "unconfined" || label == "kernel") return "";
    // An SELinux context names a user domain that confines nothing.
    if (label.find(":unconfined_t:") != std::string::npos) return "";
    return label;
  }
  return "";
}

}  // namespace

Result<ProcessStatus> read_process(pid_t pid, const std::string& root) {
  const std::string directory = root + "/" + std::to_string(pid);
  ProcessStatus process;
  process.pid = pid;
  const auto stat = read_small_file(directory + "/stat");
  const auto status = read_small_file(directory + "/status");
  if (!stat || !status) return Error{ESRCH, "process " + std::to_string(pid)};
  DROVER_CHECK(parse_process_stat(*stat, process));
  DROVER_CHECK(parse_process_status(*status, process));
  process.dumpable = looks_dumpable(directory, process.uids[1]);
  process.confinement = read_confinement(directory);
  return process;
}

Result<std::vector<pid_t>> list_processes(const std::string& root) {
  std::vector<pid_t> pids;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
    pid_t pid = 0;
    if (parse_number(entry.path().filename().native(), pid) && pid > 0) pids.push_back(pid);
  }
  if (error) return Error{error.value(), root};
  return pids;
}

Status parse_process_status(std::string_view text, ProcessStatus& process) {
  bool uid_seen = false;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, colon);
    uid_seen |= name == "Uid";
    if (!take_status_line(name, words(line.substr(colon + 1)), process))
      return refusal("/proc/PID/status: malformed line " + std::string(name));
  }
  if (!uid_seen) return refusal("/proc/PID/status: no line Uid");
  return {};
}

Status parse_process_stat(std::string_view text, ProcessStatus& process) {
  // The command is in parentheses and may hold some itself: it ends at the last one.
  const std::size_t open = text.find('(');
  const std::size_t close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open)
    return refusal("/proc/PID/stat: malformed");
  process.command = text.substr(open + 1, close - open - 1);
  const auto fields = words(text.substr(close + 1));  // field 3 of proc(5) is fields[0]
  unsigned long flags = 0;
  std::uint64_t user = 0;
  std::uint64_t system = 0;
  if (fields.size() < 20 || fields[0].size() != 1 || !parse_number(fields[1], process.parent) ||
      !parse_number(fields[6], flags) || !parse_number(fields[11], user) ||
      !parse_number(fields[12], system) || !parse_number(fields[19], process.start_ticks))
    return refusal("/proc/PID/stat: malformed");
  process.state = fields[0][0];
  process.kernel_thread = flags & kKernelThreadFlag;
  const auto ticks_per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  process.cpu_ns = (user + system) * (1'000'000'000 / ticks_per_second);
  return {};
}

std::vector<std::string> objections_to_moving(const ProcessStatus& process, bool root_allowed,
                                              bool tracer_is_ours) {
  std::vector<std::string> reasons;
  if (process.state == 'Z' && process.threads > 1) return {"has lost its first thread"};
  if (process.state == 'Z' || process.state == 'X') return {"has ended"};
  if (process.kernel_thread) return {"is a kernel thread"};
  const uid_t uid = process.uids[0];
  const auto differs = [](const auto& ids) {
    return ids[1] != ids[0] || ids[2] != ids[0] || ids[3] != ids[0];
  };
  if (differs(process.uids) || differs(process.gids))
    reasons.push_back("runs with the rights of a setuid or setgid program");
  if (uid == 0 && !root_allowed)
    reasons.push_back("is a job of root, which this node does not allow (allow-root-jobs)");
  if (uid != 0 && process.permitted_capabilities != 0)
    reasons.push_back(fmt::format("has capabilities ({:#x})", process.permitted_capabilities));
  if (!process.dumpable) reasons.push_back("is not dumpable: it protects its memory");
  if (!process.confinement.empty())
    reasons.push_back("is confined by the profile " + process.confinement);
  if (process.tracer != 0 && !tracer_is_ours)
    reasons.push_back(fmt::format("is traced by process {}", process.tracer));
  if (process.seccomp != 0) reasons.push_back("has a seccomp filter of its own");
  if (process.nested) reasons.push_back("runs in a pid namespace of its own");
  return reasons;
}

}  // namespace drover
