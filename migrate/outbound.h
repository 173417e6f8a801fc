// Home to remote: the move of a process away from its home, as the deputy makes it.
#pragma once

#include <chrono>
#include <list>
#include <memory>
#include <optional>

#include "common/process/page_map.h"
#include "common/secure_channel.h"
#include "migrate/capture.h"
#include "migrate/hollow_process.h"
#include "migrate/leaving_thread.h"

namespace drover {

/// A process that is away, seen from home.
struct AwayProcess {
  pid_t pid = -1;
  ForeignMemory memory;
  std::optional<PageMap> pages;
  HomeContents contents;
  std::array<KernelSigaction, kSignalCount> actions{};
  ForeignRange kept_pages;          ///< of memory that is not dropped
  std::list<HollowThread> threads;  ///< the leading one first
  std::vector<pid_t> in_calls;      ///< those that were when they left
  /// If its memory has not been dropped: what else it was when it left.
  std::optional<ProcessState> kept_state;
  bool stopped = false;  ///< by a signal, and its body has been told
};

struct MoveFigures {
  std::chrono::nanoseconds freeze{0};
  std::uint64_t bytes = 0;
};

class Outbound {
 public:
  /// `channel` leads to a guest that has said hello. `root_allowed`: jobs of root may leave.
  /// `lease`: how long the body may run without a word of ours. `keep_memory`: it is not dropped.
  Outbound(pid_t pid, std::string job, std::string home_node, bool root_allowed, Commit lease,
           bool keep_memory, SecureChannel& channel);
  /// Before the commit: the process goes on at home as if nothing had been.
  ~Outbound();

  /// Makes the move. On success the process is away and its hollow rest is held; on failure it
  /// runs where it was.
  Result<std::unique_ptr<AwayProcess>> make();
  const MoveFigures& figures() const { return figures_; }
  /// The body may run: there is no way back.
  bool committed() const { return committed_; }

 private:
  Status open_memory();
  bool is_another_program() const;
  Status send_in_advance();
  Status freeze();
  Status freeze_threads();
  Status check_may_move() const;
  Status capture_threads(ForeignRange vdso);
  Status make_scratch();
  Result<ProcessState> capture();
  Status send_image();
  Result<Frame> await_answer();
  Status agree();
  Status commit();
  Status hollow_out();
  Status send_new_contents(const std::vector<MemoryArea>& areas);
  void undo();
  Status let_go_threads();
  Status set_options(unsigned long options) const;
  const TracedThread& leader() const { return threads_.front().thread(); }

  pid_t pid_;
  std::string job_;
  std::string home_node_;
  bool root_allowed_;
  Commit lease_;
  bool keep_memory_;
  SecureChannel* channel_;
  std::unique_ptr<AwayProcess> process_;
  ForeignRange vdso_;                 // of the program that the move has begun with
  std::list<LeavingThread> threads_;  // the leading one first
  std::vector<ThreadState> states_;   // in the same order
  Scratch scratch_;
  MoveFigures figures_;
  std::chrono::steady_clock::time_point frozen_at_;
  bool committed_ = false;
};

}  // namespace drover
