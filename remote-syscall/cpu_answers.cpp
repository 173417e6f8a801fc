#include "remote-syscall/cpu_answers.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/times.h>
#include <unistd.h>

#include <cstring>

#include "remote-syscall/cpu_clock_id.h"

namespace drover {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

/// Adds to a kernel's structure of seconds and another part, of which `units` make a second.
template <class Time>
void add_to(Time& time, long Time::*part, std::int64_t units, std::uint64_t ns) {
  const auto more = static_cast<std::int64_t>(ns);
  time.tv_sec += more / kSecond;
  time.*part += more % kSecond / (kSecond / units);
  if (time.*part < units) return;
  time.*part -= units;
  ++time.tv_sec;
}

template <class T, class Change>
void change_record(Bytes& data, Change change) {
  T value;
  if (data.size() < sizeof value) return;
  std::memcpy(&value, data.data(), sizeof value);
  change(value);
  std::memcpy(data.data(), &value, sizeof value);
}

const CpuAccount& account_of(Body& body, std::int32_t thread) {
  return thread == 0 ? body.cpu.process(body) : body.cpu.thread(body, thread);
}

void add_to_clock(clockid_t id, Body& body, std::int32_t caller, Bytes& data) {
  const auto clock = own_cpu_clock(id, body.home_pid, caller);
  if (!clock) return;
  const std::uint64_t more = reading(account_of(body, clock->thread).used, clock->clock);
  change_record<timespec>(data, [&](timespec& t) { add_to(t, &timespec::tv_nsec, kSecond, more); });
}

void add_to_usage(int who, Body& body, std::int32_t caller, Bytes& data) {
  if (who == RUSAGE_CHILDREN) return;
  const ShownCpuTime more = account_of(body, who == RUSAGE_THREAD ? caller : 0).shown;
  change_record<rusage>(data, [&](rusage& usage) {
    add_to(usage.ru_utime, &timeval::tv_usec, 1'000'000, more.user);
    add_to(usage.ru_stime, &timeval::tv_usec, 1'000'000, more.system);
  });
}

void add_to_times(Body& body, Bytes& data) {
  static const auto tick = static_cast<std::uint64_t>(kSecond / sysconf(_SC_CLK_TCK));
  const ShownCpuTime more = body.cpu.process(body).shown;
  change_record<tms>(data, [&](tms& t) {
    t.tms_utime += static_cast<clock_t>(more.user / tick);
    t.tms_stime += static_cast<clock_t>(more.system / tick);
  });
}

}  // namespace

bool tells_cpu_time(int number) {
  return number == SYS_clock_gettime || number == SYS_getrusage || number == SYS_times;
}

void add_body_cpu(const CallRequest& request, const CallReply& reply, Body& body,
                  std::int32_t caller, Bytes& data) {
  if (reply.pieces.empty()) return;
  const auto which = static_cast<int>(request.arguments[0]);
  switch (request.number) {
    case SYS_clock_gettime:
      return add_to_clock(which, body, caller, data);
    case SYS_getrusage:
      return add_to_usage(which, body, caller, data);
    case SYS_times:
      return add_to_times(body, data);
    default:
      return;
  }
}

}  // namespace drover
