// The deputy: the program at home that holds a process which is away, executes its calls there
// and moves it on or home.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "common/secure_channel.h"
#include "migrate/control_line.h"
#include "migrate/image_bounds.h"
#include "migrate/kept_process.h"
#include "migrate/lease.h"
#include "migrate/order.pb.h"
#include "migrate/outbound.h"
#include "remote-syscall/home_server.h"

namespace drover {

class Deputy {
 public:
  /// `control` is the socket to migrated.
  Deputy(LocalSocket control, std::string home_node)
      : control_(std::move(control)), home_node_(std::move(home_node)) {}

  /// Serves until the process is home again or has ended. The value is the exit status.
  int run();

 private:
  int hold();
  Status begin(const order::Outbound& order, OwnedFd socket);
  Status serve();
  Status serve_body_frames();
  Status on_body_frame(const Frame& frame);
  Status on_order();
  Status on_event(const HomeEvent& event);
  Status beat();
  Status say_alive();
  Status check_silence(std::chrono::milliseconds limit) const;
  bool silent() const { return !check_silence(kLease); }
  void report_silence();
  void report_stop();
  Commit commit() const { return {static_cast<std::uint32_t>(lease_.count())}; }
  Status wait_for_anything(int children);

  /// Brings the process home. A failure leaves it where it is, unless nothing is left there.
  void come_home(const std::string& reason);
  Status rebuild_at_home();
  Status take_image(HomeRebuild& rebuild, ProcessState& state);
  Status take_part(const Frame& frame, HomeRebuild& rebuild, std::optional<Layout>& layout,
                   ProcessState& state);
  void hop(const order::Hop& order, OwnedFd socket);
  Status hop_to(const order::Hop& order, SecureChannel& target);
  Status await_hop(SecureChannel& target);
  Result<bool> hear_source(std::optional<Error>& refused);
  Status commit_hop(SecureChannel& target);
  void stay(const Error& why);
  Status await_answer();
  Result<std::optional<Frame>> hear_leaver();
  bool is_answer(const Frame& frame);

  // Of a process whose memory is kept (deputy_kept.cpp).
  void keep();
  Status drop_kept();
  void forgo_kept(const std::string& target, const SecureChannel& channel);
  Status check_killed_there(const Frame& frame) const;
  bool goes_back(const Error& why, bool listens);
  void hear_farewell();
  bool await_end_of_body(std::chrono::steady_clock::time_point until);
  bool is_over_at_home();
  bool notices_end();
  void refuse_orders();
  void say_lost(const Error& why, std::chrono::milliseconds wait);

  Result<SecureChannel> open_channel(OwnedFd socket, const std::string& key, std::uint64_t epoch,
                                     std::uint32_t protocol);
  void report_move(const std::string& from, const std::string& to, const Status& outcome,
                   const std::string& reason);
  std::string reason_of(const Error& why) const;
  order::DeputyEvent counters() const;
  void report_standing();
  void report_ended(int wait_status, const std::string& message);
  void over(int wait_status);
  void lost(const Error& seen);
  std::optional<Error> last_words();
  std::optional<int> await_end() const;
  void tell_user(const std::string& text) const;

  ControlLine control_;
  pid_t pid_ = -1;
  bool committed_ = false;
  bool more_frames_ = false;           // of the body, already received
  bool answer_due_ = false;            // of a guest that was told to leave
  std::optional<ImageBounds> bounds_;  // of what it sends until then
  std::string home_node_;
  std::string job_;
  std::string where_;
  std::uint64_t epoch_ = 0;
  std::chrono::milliseconds lease_ = kLease;  // of the body, and what we wait for it ourselves
  bool said_silent_ = false;
  bool said_stopped_ = false;
  bool target_told_of_stop_ = false;      // of the last hop
  std::optional<std::string> postponed_;  // why it is to come home once its guest is heard again
  std::optional<SecureChannel> channel_;
  std::unique_ptr<AwayProcess> process_;
  std::optional<HomeServer> server_;
  std::optional<KeptProcess> kept_;
  bool drops_on_ = false;   // of what was kept, there is more to be dropped at once
  bool body_over_ = false;  // its guest has said so: nothing of it is left
  bool body_lost_ = false;  // it is, and P waits for its end
  CallCounters counters_;
  std::uint64_t moves_ = 0;
  std::uint64_t failed_moves_ = 0;
  ReportedCpu remote_cpu_;
  MoveFigures figures_;
  std::chrono::steady_clock::time_point move_began_;
  std::chrono::steady_clock::time_point left_;
  std::chrono::steady_clock::time_point heard_;
  std::chrono::steady_clock::time_point beaten_;
  std::chrono::steady_clock::time_point reported_;
  bool done_ = false;
};

}  // namespace drover
