// The CPU time that a process, or one of its threads, has used away from home in one absence. It
// goes with it from node to node.
#pragma once

#include <list>
#include <map>

#include "common/process/cpu_time.h"
#include "common/result.h"

namespace drover {

struct Body;

/// User and system time as getrusage(2) and times(2) show them: what was used, shared out in the
/// proportion in which the ticks have found it to be used, neither ever less than before
/// (cputime_adjust in kernel/sched/cputime.c).
struct ShownCpuTime {
  std::uint64_t user = 0;
  std::uint64_t system = 0;

  void show(const CpuTime& used);
  bool operator==(const ShownCpuTime&) const = default;
};

struct CpuAccount {
  CpuTime used;
  ShownCpuTime shown;

  bool operator==(const CpuAccount&) const = default;
};
/// Whether a peer may say so: sums and differences of such times are numbers.
bool is_possible(const CpuAccount& account);

/// What guests say, one after the other, that a process has used away: each goes on where the last
/// one has ended, or, before protocol 2, begins anew.
class ReportedCpu {
 public:
  void report(std::uint64_t used_ns);
  std::uint64_t total_ns() const { return elsewhere_ + last_; }

 private:
  std::uint64_t elsewhere_ = 0;
  std::uint64_t last_ = 0;
};

/// By the thread's id as it sees itself.
using CpuAccounts = std::map<std::int32_t, CpuAccount>;

/// The account of a body that runs here.
class BodyCpu {
 public:
  BodyCpu() = default;
  /// From now on it counts, beginning with what was used elsewhere. The body has not run yet.
  BodyCpu(const Body& body, const CpuAccount& process, const CpuAccounts& threads);

  /// What it has used by now. Not less than ever before; a thread that has ended has what it had.
  const CpuAccount& process(const Body& body);
  const CpuAccount& thread(const Body& body, std::int32_t home_tid);
  /// Of all its threads.
  CpuAccounts threads(const Body& body);

  /// What the kernel's own clock of the body shows when the account's is at `reading_ns`.
  std::uint64_t on_own_clock(CpuClock clock, std::uint64_t reading_ns) const;

  /// Of a thread that has ended nobody asks any more.
  void forget(std::int32_t home_tid) { threads_.erase(home_tid); }

 private:
  struct Entry {
    CpuTime carried;  // from elsewhere
    CpuTime before;   // here, before it ran
    CpuAccount account;

    void take(const CpuTime& here);
  };

  Entry process_;
  std::map<std::int32_t, Entry> threads_;
};

}  // namespace drover
