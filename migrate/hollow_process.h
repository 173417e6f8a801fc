// P as a whole: emptied when its body leaves, filled again when it comes home.
#pragma once

#include <list>
#include <span>

#include "common/process/injection.h"
#include "migrate/capture.h"
#include "migrate/image.h"
#include "migrate/lifted_limits.h"
#include "remote-syscall/hollow_thread.h"

namespace drover {

/// Takes the registrations back by which the kernel would write into memory that is about to be
/// dropped: restartable sequence, robust list, the word cleared at exit.
Status clear_registrations(Injection& injection, const ForeignMemory& memory,
                           const ThreadState& thread);
/// The calls that make them again.
std::vector<InjectedCall> registrations(const ThreadState& thread);

/// Drops what private memory the process still has, but for `kept`. The areas stay.
Status drop_memory(Injection& injection, pid_t pid, const Scratch& scratch, ForeignRange kept);

/// The same a piece at a time, of a process whose areas do not change meanwhile.
class MemoryDrop {
 public:
  static Result<MemoryDrop> of(pid_t pid, const Scratch& scratch, ForeignRange kept);

  bool done() const { return areas_.empty(); }
  /// Drops a piece: half a millisecond's worth.
  Status drop_next(Injection& injection);

 private:
  std::vector<MemoryArea> areas_;  // what is left, the last one first
};

/// The pages of the program's arguments and environment: ps(1) reads them, so they stay.
ForeignRange argument_pages(const MemoryFields& memory);

/// Puts a body's image back into P. Until `finish`, nothing that is done to P matters to the
/// program, and P can serve on as the hollow process that it is.
class HomeRebuild {
 public:
  /// P's threads, the leading one first, are stopped, at rest, or have ended.
  HomeRebuild(const std::list<HollowThread>& threads, const ForeignMemory& memory,
              const HomeContents& contents, ForeignRange kept)
      : threads_(&threads),
        thread_(&threads.front()),
        memory_(&memory),
        contents_(&contents),
        kept_(kept),
        limits_(*thread_, memory) {}
  HomeRebuild(const HomeRebuild&) = delete;
  HomeRebuild& operator=(const HomeRebuild&) = delete;
  /// Without `finish`, P serves on.
  ~HomeRebuild();

  /// Makes P's areas those of the body.
  Status lay_out(const Layout& layout);
  /// Everything besides registers, signals and the registrations that clear_registrations takes
  /// back. The threads of the state are those of P.
  Status load(const ProcessState& state);
  /// Sends each thread of P its signals, removes our mapping, sets the registers and lets P go,
  /// untraced; if it is stopped, it stays so. Waits until P's clock has passed the last that the
  /// body can have seen. After this P is a process as any other. On failure P has none of the
  /// signals: they may go to the body again.
  Status finish(const ProcessState& state);

 private:
  const MemoryArea* kept_for(const Area& want, const std::vector<MemoryArea>& have) const;
  Status unmap_all_but_kept(Injection& injection, const std::vector<MemoryArea>& have,
                            const Layout& layout);
  Status grow_to(Injection& injection, const MemoryArea& kept, ForeignRange want);
  Status map_content(Injection& injection, const Area& want);
  bool same_backing(ForeignAddress at, const MemoryArea& have, const Area& want) const;
  Status grow_stack(Injection& injection, const Layout& layout,
                    const std::vector<MemoryArea>& areas);
  Status wait_for_clocks(const ProcessState& state) const;
  const HollowThread* living(pid_t tid) const;
  Status load_thread(const HollowThread& thread, const ThreadState& state) const;
  Status register_and_send(const ProcessState& state);
  Result<std::vector<MemoryArea>> areas() const;

  const std::list<HollowThread>* threads_;
  const HollowThread* thread_;  // the leading one
  const ForeignMemory* memory_;
  const HomeContents* contents_;
  ForeignRange kept_;  // what was not dropped
  LiftedLimits limits_;
};

/// Removes our mapping from a stopped process by its vDSO, leaving the thread stopped in the
/// kernel's signal path.
Status remove_scratch(const TracedThread& thread, const ForeignMemory& memory,
                      const Scratch& scratch);

}  // namespace drover
