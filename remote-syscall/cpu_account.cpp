#include "remote-syscall/cpu_account.h"

#include <algorithm>

#include "remote-syscall/body.h"

namespace drover {
namespace {

constexpr std::uint64_t kMostTime = INT64_MAX / 4;

/// a * b / c, which is no more than a.
std::uint64_t part_of(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(Wide{a} * b / c);
}

}  // namespace

void ShownCpuTime::show(const CpuTime& used) {
  if (user + system >= used.runtime) return;
  const std::uint64_t ticks = used.user + used.system;
  std::uint64_t now_system = ticks == 0 ? 0 : part_of(used.runtime, used.system, ticks);
  now_system = std::max(now_system, system);
  std::uint64_t now_user = used.runtime - std::min(now_system, used.runtime);
  if (now_user < user) {
    now_user = user;
    now_system = used.runtime - user;
  }
  user = now_user;
  system = now_system;
}

bool is_possible(const CpuAccount& account) {
  const std::uint64_t all[] = {account.used.runtime, account.used.user, account.used.system,
                               account.shown.user, account.shown.system};
  return std::ranges::all_of(all, [](std::uint64_t time) { return time <= kMostTime; });
}

void ReportedCpu::report(std::uint64_t used_ns) {
  if (used_ns < last_) elsewhere_ += last_;
  last_ = used_ns;
}

void BodyCpu::Entry::take(const CpuTime& here) {
  account.used = later(account.used, carried + (here - before));
  account.shown.show(account.used);
}

BodyCpu::BodyCpu(const Body& body, const CpuAccount& process, const CpuAccounts& threads) {
  process_ = {process.used, {}, process};
  if (const auto used = cpu_time_of_process(body.pid)) process_.before = *used;
  for (const BodyThread& thread : body.threads) {
    Entry& entry = threads_[thread.home_tid];
    if (const auto known = threads.find(thread.home_tid); known != threads.end()) {
      entry = {known->second.used, {}, known->second};
    }
    if (const auto used = cpu_time_of_thread(body.pid, thread.tid)) entry.before = *used;
  }
}

const CpuAccount& BodyCpu::process(const Body& body) {
  if (const auto used = cpu_time_of_process(body.pid)) process_.take(*used);
  return process_.account;
}

// One that it has made since has used nothing before.
const CpuAccount& BodyCpu::thread(const Body& body, std::int32_t home_tid) {
  Entry& entry = threads_[home_tid];
  const auto thread = std::ranges::find(body.threads, home_tid, &BodyThread::home_tid);
  if (thread != body.threads.end()) {
    if (const auto used = cpu_time_of_thread(body.pid, thread->tid)) entry.take(*used);
  }
  return entry.account;
}

CpuAccounts BodyCpu::threads(const Body& body) {
  CpuAccounts all;
  for (const BodyThread& one : body.threads) all[one.home_tid] = thread(body, one.home_tid);
  return all;
}

std::uint64_t BodyCpu::on_own_clock(CpuClock clock, std::uint64_t reading_ns) const {
  const std::uint64_t carried = reading(process_.carried, clock);
  return reading(process_.before, clock) + (reading_ns > carried ? reading_ns - carried : 0);
}

}  // namespace drover
