// The deputy's part of a process whose memory is kept at home: if its body is lost and nothing that
// it has done since it left had an effect, it goes on from where it left.
#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "common/log.h"
#include "common/tls_socket.h"
#include "migrate/body_end.h"
#include "migrate/deputy.h"
#include "migrate/lease.h"

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;
/// For a guest that can be heard to say that nothing of its body is left.
constexpr std::chrono::seconds kFarewell{2};
/// Between two looks at a process that waits.
constexpr std::chrono::milliseconds kGlance{200};
constexpr std::chrono::microseconds kNotice{10'000};
/// For a thread of P that is in a call at home which nothing interrupts.
constexpr std::chrono::seconds kHoldPatience{30};

std::string in_seconds(Clock::duration time) {
  return std::to_string(std::chrono::round<std::chrono::seconds>(time).count()) + " s";
}

}  // namespace

void Deputy::keep() {
  kept_.emplace(*process_, *server_, [this] { static_cast<void>(say_alive()); });
  forgo_kept(where_, *channel_);
}

/// Where it is not sure when a body has ended, P must not go on.
void Deputy::forgo_kept(const std::string& target, const SecureChannel& channel) {
  if (!kept_ || channel.protocol() >= kFirstWithSureEnds) return;
  kept_->forgo(target + " speaks version " + std::to_string(channel.protocol()) +
               " of the protocol, by which a body may outlive its lease");
}

Status Deputy::drop_kept() {
  if (!kept_) return {};
  DROVER_TRY(drops_on_, kept_->drop_some());
  return {};
}

/// The program's own end by SIGKILL would be P's: its body was killed by its node.
Status Deputy::check_killed_there(const Frame& frame) const {
  if (frame.type != type(FrameType::kFatal) || !kept_ || !kept_->whole()) return {};
  DROVER_TRY(const FatalMessage message, FatalMessage::decode(frame.payload));
  return message.info.si_signo == SIGKILL ? Status(refusal("it has killed the process there"))
                                          : Status{};
}

/// False: it does not, and nothing has been done to it that matters.
bool Deputy::goes_back(const Error& why, bool listens) {
  if (!kept_ || !kept_->whole()) return false;
  if (listens) hear_farewell();
  channel_->abort();
  const auto silent = Clock::now();
  const auto until = body_over_ ? silent : surely_ended(silent, lease_);
  body_lost_ = true;
  say_lost(why, time_left(until));
  if (!await_end_of_body(until)) return done_;
  if (const Status back = kept_->put_back(); !back) {
    log_error("job {}: putting it back: {}", job_, back.error().message());
    kept_->give_up(back.error().message());
    return false;
  }
  log_info("job {}: goes on at home from where it left", job_);
  figures_ = {};
  report_move(where_, "home", {}, where_ + " is lost: " + why.message());
  done_ = true;
  return true;
}

/// A guest that can be heard is told to end its body, and says when it has.
void Deputy::hear_farewell() {
  const auto patience = Clock::now() + kFarewell;
  bool heard = !body_over_ && !silent() && channel_->send(type(FrameType::kDiscard), {}).ok();
  while (heard && !body_over_) {
    const auto frame = channel_->receive_within(time_left(patience));
    heard = frame.ok();
    body_over_ = heard && tells_end(*frame);
  }
}

/// Waits until nothing of the body can run, with all threads of P stopped, so that its signals wait
/// for it. False: P has ended, or cannot be stopped.
bool Deputy::await_end_of_body(Clock::time_point until) {
  static_cast<void>(server_->take_event());  // why it was to come home
  Status stopped = server_->break_off();
  while (!is_over_at_home()) {
    if (stopped && Clock::now() >= until) return true;
    if (Clock::now() >= until + kHoldPatience) {
      log_error("job {}: {}", job_, stopped.error().message());
      return false;
    }
    control_.say_again(counters());
    pollfd order{control_.fd(), POLLIN, 0};
    const auto pause = std::min(time_left(until), kGlance);
    if (poll(&order, 1, static_cast<int>(pause.count())) > 0) refuse_orders();
    if (!stopped) stopped = server_->break_off();
  }
  return false;
}

/// Whether P has ended. A signal that waits and that the program lets end it does so now, unless P
/// is stopped: then when it is continued.
bool Deputy::is_over_at_home() {
  if (notices_end()) return true;
  HollowThread& leader = process_->threads.front();
  const int fatal = leader.state() == HollowThread::State::kStopped ? kept_->fatal_signal() : 0;
  if (fatal == 0 || !server_->notice_stop_without_body() || server_->stop_begun()) return false;
  if (!leader.begin_to_die(fatal)) return false;
  for (const auto patience = Clock::now() + kStopPatience; Clock::now() < patience;) {
    if (notices_end()) return true;
    usleep(kNotice.count());
  }
  return false;
}

bool Deputy::notices_end() {
  const Status looked = server_->look();
  const auto event = server_->take_event();
  std::optional<int> status;
  if (event && event->kind == HomeEvent::Kind::kEnded) status = event->wait_status;
  if (!looked && has_ended(pid_)) status = await_end();
  if (status) over(*status);
  return status.has_value();
}

/// But how things stand is said.
void Deputy::refuse_orders() {
  auto packet = control_.receive(std::chrono::milliseconds(0));
  order::DeputyOrder order;
  if (!packet || !*packet ||
      !order.ParseFromArray((*packet)->data.data(), static_cast<int>((*packet)->data.size()))) {
    return;
  }
  if (order.has_report()) return report_standing();
  const std::uint64_t epoch = epoch_;
  if (order.has_hop()) epoch_ = order.hop().epoch();
  report_move(where_, order.has_hop() ? order.hop().target() : "home",
              refusal("its body on " + where_ + " is lost: it is about to go on at home"), "asked");
  epoch_ = epoch;
}

void Deputy::say_lost(const Error& why, std::chrono::milliseconds wait) {
  std::string text = where_ + ", where the process was, is lost: " + why.message() +
                     ": it goes on at home from where it left, without the work of the last " +
                     in_seconds(Clock::now() - left_);
  if (wait.count() > 0) {
    text += ", in " + in_seconds(wait) + ", when nothing of it can run there any more";
  }
  log_error("job {}: {}", job_, text);
  tell_user(text);
  order::DeputyEvent event;
  event.mutable_body_lost()->set_why(reason_of(why));
  event.mutable_body_lost()->set_wait_ms(static_cast<std::uint32_t>(wait.count()));
  static_cast<void>(control_.say(event));
}

}  // namespace drover
