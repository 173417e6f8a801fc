// Timers and limits by CPU time of a process that is away: setitimer(2) of ITIMER_VIRTUAL and
// ITIMER_PROF, timer_create(2) on CPU clocks, RLIMIT_CPU.
//
// What P uses and what the body uses count together, and no kernel has both: so P's timers rest
// (they stay P's, with their ids and their signals), and here it is known when they expire. The
// body's time the guest tells, at latest when it is so much that one of them might. Then P is made
// to send the signal itself: which thread gets it, whether it is blocked, pending or waited for, is
// as it would be at home.
#pragma once

#include <sys/time.h>

#include <array>
#include <list>
#include <map>
#include <optional>
#include <span>

#include "common/process/limits.h"
#include "common/secure_channel.h"
#include "remote-syscall/cpu_clock_id.h"
#include "remote-syscall/cpu_messages.h"
#include "remote-syscall/cpu_timer.h"
#include "remote-syscall/hollow_thread.h"
#include "remote-syscall/marshal.h"

namespace drover {

class HomeThread;

/// What is told in pieces, by one guest after the other: each goes on where the last one ended, or
/// begins anew.
class ReportedCpuTime {
 public:
  void report(const CpuTime& used);
  CpuTime total() const { return elsewhere_ + last_; }

 private:
  CpuTime elsewhere_;
  CpuTime last_;
};

/// What a call sets of a timer: it is taken out of the call before P makes it.
struct TimerChange {
  TimerSetting setting;
  bool absolute = false;
};

class HomeCpuTimers {
 public:
  explicit HomeCpuTimers(pid_t pid) : pid_(pid) {}

  /// Takes P's timers over. Its threads, the leading one first, are stopped.
  Status adopt(const std::list<HollowThread>& threads, const ForeignMemory& memory);
  /// Gives them back to P, with what is left of them. The same.
  Status give_back(const std::list<HollowThread>& threads, const ForeignMemory& memory);

  /// What the body has used.
  void told(const CpuUsedMessage& message);
  /// All of that is to count no more.
  void forget_away();
  /// P's limit may be another one by now.
  void notice_limit();
  /// Another guest serves the body: it knows nothing yet of what to wait for.
  void begin_anew() { said_.reset(); }

  /// A call is about to be made by P, which is to find nothing in it to set.
  std::optional<TimerChange> before(CallRequest& request);
  /// Thread `tid` has made it: `result` and the contents of the pieces become what they would be
  /// at home.
  void after(const CallRequest& request, std::int32_t tid, const std::optional<TimerChange>& change,
             std::int64_t& result, std::span<const Piece> pieces, std::span<std::byte> data);
  /// A signal that P has taken: it tells of overruns if a timer of ours has sent it.
  void taken(siginfo_t& info);
  void thread_ended(std::int32_t tid);

  /// Lets P do what is due, and tells the guest what to wait for.
  Status tend(std::list<HomeThread>& threads, SecureChannel& channel);

 private:
  struct PosixTimer {
    CpuClockId clock;
    int notify = 0;
    int signal = 0;
    std::int32_t target = 0;  // of SIGEV_THREAD_ID
    CpuTimer timer;
    std::uint64_t look_at = 0;  // whether a signal that is pending still is
    // P's kernel has it still, for its signal was pending when the process left: it would be lost
    // if the timer was set anew. So it counts overruns, from there on only by what P uses.
    bool in_p = false;
    std::uint64_t next_in_p = 0;
    bool to_rest = false;  // once that has been taken
  };
  struct Itimer {
    CpuClock clock;
    int which;
    int signal;
    CpuItimer timer;
    std::uint64_t quiet_until = 0;  // no more than one signal in a tick
  };
  /// The clocks, read at most once.
  class Now {
   public:
    explicit Now(const HomeCpuTimers& timers) : timers_(&timers) {}
    std::uint64_t home(const CpuClockId& id);
    std::uint64_t away(const CpuClockId& id) const;
    std::uint64_t both(const CpuClockId& id) { return home(id) + away(id); }

   private:
    const HomeCpuTimers* timers_;
    std::map<std::int32_t, CpuTime> home_;
  };
  struct InP;  // where calls of ours in P stand

  bool any() const;
  Itimer* itimer(std::uint64_t which);
  PosixTimer* posix(std::uint64_t id);

  Status take_over_itimer(InP& p, Itimer& timer);
  Status take_over(InP& p, int id, PosixTimer& timer);
  Status take_over_pending(InP& p, int id, PosixTimer& timer);
  void forget_unknown();
  Result<std::int32_t> thread_of(InP& p, int id) const;
  Status give_back_itimer(InP& p, Now& now, const Itimer& timer) const;
  Status give_back_posix(InP& p, Now& now, int id, PosixTimer& timer, bool pending) const;

  void after_timer_call(const CallRequest& request, const std::optional<TimerChange>& change,
                        std::int64_t& result, std::span<const Piece> pieces,
                        std::span<std::byte> data);
  void after_create(const CallRequest& request, std::int32_t tid, std::span<const Piece> pieces,
                    std::span<const std::byte> data);
  void tell_overruns(const CallRequest& request, std::span<const Piece> pieces,
                     std::span<std::byte> data);
  /// The timer whose signal this is, if there is one that is pending; then it has been taken.
  PosixTimer* taken(int code, std::uint64_t id, std::int64_t overruns_in_p);

  Status notice_taken(std::list<HomeThread>& threads, Now& now);
  Status let_rest(std::list<HomeThread>& threads);
  Status fire_itimer(std::list<HomeThread>& threads, Now& now, Itimer& timer);
  Status fire_posix(std::list<HomeThread>& threads, Now& now, int id, PosixTimer& timer);
  Status mind_limit(std::list<HomeThread>& threads, Now& now);
  Status tell_of_limit(std::list<HomeThread>& threads);
  Result<bool> send_to_process(std::list<HomeThread>& threads, int signal, bool patient) const;
  CpuWatchMessage wanted(Now& now) const;
  Status set_alarm(Now& now);
  bool is_news(const CpuWatchMessage& wanted) const;

  /// Calls `use` with each clock that is waited for, and the reading that is.
  template <class Use>
  void each_wait(Now& now, Use use) const;

  pid_t pid_;
  ReportedCpuTime process_;
  std::map<std::int32_t, ReportedCpuTime> threads_;
  std::int32_t user_ = 0;  // the thread whose turn it is to be told what its process has used
  std::array<Itimer, 2> itimers_{{{CpuClock::kVirtual, ITIMER_VIRTUAL, SIGVTALRM, {}, 0},
                                  {CpuClock::kProf, ITIMER_PROF, SIGPROF, {}, 0}}};
  std::map<int, PosixTimer> posix_;
  Limit limit_;
  std::uint64_t limit_quiet_until_ = 0;
  bool limit_reached_ = false;           // and the signal is still to come
  std::optional<CpuWatchMessage> said_;  // and not come yet
  bool waited_for_ = false;              // anything, as the guest has heard last
  std::optional<CpuAlarm> alarm_;        // on what P uses
};

}  // namespace drover
