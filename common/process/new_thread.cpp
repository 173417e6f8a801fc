#include "common/process/new_thread.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>

namespace drover {
namespace {

constexpr unsigned long kOptions = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD;

Status hold(pid_t tid, NewThread& made) {
  made.thread = TracedThread::born_traced(tid);
  DROVER_TRY(const Stop stop, made.thread.wait_for_stop());
  if (!stop.by_event()) return refusal("a new thread went astray");
  made.in_group_stop = stop.kind == Stop::Kind::kGroupStop;
  return made.thread.set_options(kOptions);
}

}  // namespace

Result<NewThread> make_thread(const TracedThread& maker, const ForeignMemory& memory,
                              const Scratch& scratch, clone_args wanted, std::int32_t id) {
  DROVER_TRY(const SignalMask mask, maker.signal_mask());
  DROVER_CHECK(maker.set_options(kOptions | PTRACE_O_TRACECLONE));
  const ForeignAddress at = scratch.data();
  const ForeignAddress id_at = at + sizeof wanted;
  if (id != 0) {
    wanted.set_tid = id_at.value();
    wanted.set_tid_size = 1;
  }
  DROVER_CHECK(memory.write_record(at, wanted));
  DROVER_CHECK(memory.write_record(id_at, id));
  NewThread made;
  DROVER_TRY(Injection injection, Injection::trapping(maker, scratch));
  DROVER_TRY(made.result, injection.raw(SYS_clone3, {at.value(), sizeof wanted}));
  if (made.result >= 0) {
    // In another pid namespace its id is another one for us than for the process.
    if (!injection.born()) return refusal("a new thread is not ours");
    DROVER_CHECK(hold(*injection.born(), made));
    DROVER_CHECK(made.thread.set_signal_mask(mask));
  }
  DROVER_CHECK(injection.end());
  DROVER_CHECK(maker.set_options(kOptions));
  return made;
}

}  // namespace drover
