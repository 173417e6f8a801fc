// The guest: the program that hosts one body on a node that is not its home.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "common/secure_channel.h"
#include "migrate/body_image.h"
#include "migrate/body_lease.h"
#include "migrate/control_line.h"
#include "migrate/lease.h"
#include "migrate/order.pb.h"
#include "remote-syscall/body_supervisor.h"

namespace drover {

class Guest {
 public:
  /// `control` is the socket to migrated, `root` the directory that is for enter_guest_root.
  Guest(LocalSocket control, std::string root) : control_(std::move(control)) {
    hosting_.guest_root = std::move(root);
  }

  /// Serves until the body is gone. The value is the program's exit status.
  int run();

 private:
  Status start();
  Status ask_clocks();
  Status take_image();
  Status await_commit();
  Status serve();
  Status serve_home_frames();
  Status leave_for_home();
  Status leave_for(const HopOrder& order);
  Status say_failed(const Error& why);
  bool body_is_over() const { return supervisor_->ended() || supervisor_->exiting(); }
  Status hear_home();
  Result<Frame> next_word();
  Status freeze();
  Status run_body();
  Status beat();
  Status say_alive();
  Result<SecureChannel> dial(const HopOrder& order);
  Result<OwnedFd> ask_for_connection(const HopOrder& order);
  Result<order::GuestOrder> await_order(std::vector<OwnedFd>& fds,
                                        std::chrono::milliseconds patience,
                                        const SignOfLife& meanwhile);
  Status home_waits();
  Result<order::GuestOrder> next_order(std::vector<OwnedFd>& fds,
                                       std::chrono::milliseconds timeout);
  void forget_orders();
  Result<SecureChannel> accept_source(const HopOrder& expected);
  void end_body();
  void say_last(FrameType word, const Status& outcome);
  std::uint64_t cpu_here_ns() const;
  std::uint64_t cpu_away_ns();

  ControlLine control_;
  Hosting hosting_;
  std::string job_;
  std::uint64_t epoch_ = 0;
  std::unique_ptr<ContentStore> contents_;
  std::optional<SecureChannel> home_;
  std::optional<Sandbox> sandbox_;
  HostedImage hosted_;
  bool from_guest_ = false;  // the image came from another guest, not from home
  std::optional<Body> body_;
  std::optional<BodySupervisor> supervisor_;
  BodyLease lease_;
  LeaseAlarm alarm_;
  std::chrono::steady_clock::time_point beaten_;  // to home
  bool done_ = false;
};

}  // namespace drover
