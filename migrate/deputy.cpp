#include "migrate/deputy.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "common/fault.h"
#include "common/log.h"
#include "common/silence.h"
#include "common/tls_socket.h"
#include "migrate/body_end.h"
#include "migrate/lease.h"
#include "migrate/page_stream.h"
#include "migrate/untold_signals.h"
#include "migrate/waiting_image.h"

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kHandshake{5};
/// For the answer of a guest that may still be dialling, or sending to, the target of a hop.
constexpr std::chrono::seconds kHopAnswerGrace{60};
/// For a process that has been killed to end.
constexpr std::chrono::seconds kEndPatience{1};
/// For a migrated that is being started again to hear how it ended.
constexpr std::chrono::seconds kLastWordsPatience{30};

const sigset_t kChildSignal = [] {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, CpuAlarm::signal());
  return set;
}();

std::int64_t now_ns(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

/// What a body has used when it was stopped for its image, if that is known.
std::optional<CpuUsedMessage> cpu_used_by(const ProcessState& state) {
  if (!state.cpu) return std::nullopt;
  CpuUsedMessage used;
  used.process = state.cpu->used;
  for (const ThreadState& thread : state.threads) {
    used.threads.push_back({thread.tid, 0, thread.cpu.used});
  }
  return used;
}

/// Answers the guest's questions for home's clocks until it knows enough.
Status tell_clocks(SecureChannel& channel, Clock::time_point deadline) {
  constexpr int kMostQuestions = 100;
  for (int i = 0; i < kMostQuestions; ++i) {
    DROVER_TRY(const Frame frame, channel.receive_within(time_left(deadline)));
    if (frame.type == type(FrameType::kClockDone)) return {};
    if (frame.type == type(FrameType::kFailed)) return failure_of(frame);
    if (frame.type != type(FrameType::kClockAsk))
      return refusal("unexpected question of the guest");
    const ClockReading reading{now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_BOOTTIME)};
    DROVER_CHECK(channel.send(type(FrameType::kClockTell), encode_record(reading)));
  }
  return refusal("the guest asks for the time without end");
}

}  // namespace

int Deputy::run() {
  const int status = hold();
  control_.await_heard(kLastWordsPatience);
  return status;
}

int Deputy::hold() {
  // Read from a descriptor, or waited for.
  sigprocmask(SIG_BLOCK, &kChildSignal, nullptr);
  auto first = control_.receive(std::chrono::seconds(60));
  order::DeputyOrder order;
  if (!first || !*first ||
      !order.ParseFromArray((*first)->data.data(), static_cast<int>((*first)->data.size())) ||
      !order.has_outbound() || (*first)->fds.size() != 2) {
    log_error("the first order is not Outbound");
    return 1;
  }
  control_.keep(std::move((*first)->fds[1]));
  move_began_ = Clock::now();
  pid_ = order.outbound().pid();
  const Status began = begin(order.outbound(), std::move((*first)->fds.front()));
  if (!began && committed_) {
    lost(began.error());
    return 1;
  }
  report_move(home_node_, order.outbound().target(), began, "asked");
  if (!began) return 1;
  if (auto s = serve(); !s) lost(s.error());
  return 0;
}

// All of it within kHandshake: a body that is away already hears nothing of us meanwhile.
Result<SecureChannel> Deputy::open_channel(OwnedFd socket, const std::string& key,
                                           std::uint64_t epoch, std::uint32_t protocol) {
  const auto deadline = Clock::now() + kHandshake;
  DROVER_CHECK(check_spoken(protocol, "home's deputy"));
  ChannelKey channel_key;
  if (key.size() != channel_key.size()) return refusal("the channel key has a wrong length");
  std::memcpy(channel_key.data(), key.data(), key.size());
  DROVER_TRY(SecureChannel channel, SecureChannel::open(std::move(socket), ChannelRole::kDialler,
                                                        channel_key, time_left(deadline)));
  DROVER_CHECK(notice_silence(channel.poll_fd(), kLease));
  channel.speak(protocol);
  const Hello hello{protocol, job_, epoch};
  DROVER_CHECK(channel.send(type(FrameType::kHello), hello.encode()));
  DROVER_TRY(const Frame frame, channel.receive_within(time_left(deadline)));
  if (frame.type == type(FrameType::kFailed)) return failure_of(frame);
  if (frame.type != type(FrameType::kHello)) return refusal("the guest does not say hello");
  DROVER_TRY(const Hello answer, Hello::decode(frame.payload));
  DROVER_CHECK(check_hello(answer, hello, "the guest"));
  DROVER_CHECK(tell_clocks(channel, deadline));
  return channel;
}

Status Deputy::begin(const order::Outbound& order, OwnedFd socket) {
  job_ = order.job();
  epoch_ = order.epoch();
  where_ = order.target();
  lease_ = std::clamp(std::chrono::milliseconds(order.lease_ms()), kLease, kLongestLease);
  DROVER_TRY(channel_,
             open_channel(std::move(socket), order.key(), epoch_, protocol_said(order.protocol())));
  Outbound outbound(order.pid(), job_, home_node_, order.root_allowed(), commit(),
                    order.keep_memory(), *channel_);
  auto away = outbound.make();
  figures_ = outbound.figures();
  committed_ = outbound.committed();
  if (!away) return away.error();
  process_ = *std::move(away);
  server_.emplace(process_->threads, process_->memory, *channel_, process_->actions, counters_,
                  process_->stopped);
  DROVER_CHECK(server_->adopt_timers());
  for (const pid_t tid : process_->in_calls) server_->await_call(tid);
  if (process_->kept_state) keep();
  heard_ = beaten_ = left_ = Clock::now();
  return notice_silence(channel_->poll_fd(), lease_);
}

Status Deputy::serve() {
  const OwnedFd children(signalfd(-1, &kChildSignal, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!children) return errno_error("watch the process");
  while (!done_) {
    DROVER_CHECK(serve_body_frames());
    if (done_) break;
    DROVER_CHECK(server_->look());
    if (const auto event = server_->take_event()) DROVER_CHECK(on_event(*event));
    if (done_) break;
    DROVER_CHECK(server_->rest());
    DROVER_CHECK(drop_kept());
    DROVER_CHECK(beat());
    if (postponed_ && !silent()) come_home(*std::exchange(postponed_, std::nullopt));
    if (done_) break;
    DROVER_CHECK(wait_for_anything(children.get()));
  }
  return {};
}

Status Deputy::wait_for_anything(int children) {
  auto timeout = std::min(server_->deaf_patience().value_or(kHeartbeatPeriod), kHeartbeatPeriod);
  if (more_frames_ || drops_on_) timeout = {};
  pollfd ready[] = {
      {channel_->poll_fd(), POLLIN, 0}, {control_.fd(), POLLIN, 0}, {children, POLLIN, 0}};
  const int n = poll(ready, 3, static_cast<int>(timeout.count()));
  if (n < 0 && errno != EINTR) return errno_error("wait for the process");
  if ((ready[2].revents & POLLIN) != 0) {
    signalfd_siginfo info;
    while (read(children, &info, sizeof info) > 0) {
    }
  }
  if (ready[1].revents != 0) return on_order();
  return {};
}

Status Deputy::beat() {
  DROVER_CHECK(check_silence(lease_));
  report_silence();
  report_stop();
  channel_->allow_stall(time_left(heard_ + lease_));
  if (Clock::now() - beaten_ < kHeartbeatPeriod) return {};
  control_.say_again(counters());
  DROVER_CHECK(server_->tell_of_changes());
  return say_alive();
}

/// The guest keeps its body for as long as it hears of us.
Status Deputy::say_alive() {
  const auto now = Clock::now();
  if (now - beaten_ < kHeartbeatPeriod) return {};
  beaten_ = now;
  return channel_->send(type(FrameType::kHeartbeat), {});
}

Status Deputy::check_silence(std::chrono::milliseconds limit) const {
  const auto silence = Clock::now() - heard_;
  if (silence <= limit) return {};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(silence);
  return refusal("nothing was heard from it for " + std::to_string(seconds.count()) + " s");
}

void Deputy::report_silence() {
  if (silent() == said_silent_) return;
  said_silent_ = !said_silent_;
  order::DeputyEvent event;
  event.mutable_silence()->set_silent(said_silent_);
  static_cast<void>(control_.say(event));
}

void Deputy::report_stop() {
  if (server_->stopped() == said_stopped_) return;
  said_stopped_ = !said_stopped_;
  order::DeputyEvent event;
  event.mutable_stop()->set_stopped(said_stopped_);
  static_cast<void>(control_.say(event));
}

Status Deputy::serve_body_frames() {
  constexpr int kMostInATurn = 64;
  for (int i = 0; i < kMostInATurn && !done_; ++i) {
    DROVER_TRY(const std::optional<Frame> frame, channel_->receive());
    more_frames_ = frame.has_value();
    if (!frame) return {};
    DROVER_CHECK(on_body_frame(*frame));
    if (const auto event = server_->take_event()) DROVER_CHECK(on_event(*event));
  }
  return {};
}

Status Deputy::on_body_frame(const Frame& frame) {
  heard_ = Clock::now();
  if (frame.type == type(FrameType::kHeartbeat)) {
    DROVER_TRY(const auto beat, decode_record<GuestHeartbeat>(frame.payload, "heartbeat"));
    remote_cpu_.report(beat.cpu_ns);
    return {};
  }
  if (frame.type == type(FrameType::kCpuUsed)) {
    DROVER_TRY(const auto used, CpuUsedMessage::decode(frame.payload));
    remote_cpu_.report(used.process.runtime);
  }
  // A guest that fails right after its body has begun to run says kFailed.
  body_over_ = tells_end(frame);
  if (body_over_) return failure_of(frame);
  DROVER_CHECK(check_killed_there(frame));
  return server_->on_frame(frame);
}

Status Deputy::on_event(const HomeEvent& event) {
  if (event.kind == HomeEvent::Kind::kEnded) {
    over(event.wait_status);
    return {};
  }
  come_home(event.words);
  return {};
}

Status Deputy::on_order() {
  auto packet = control_.receive(std::chrono::milliseconds(0));
  if (!packet || !*packet) return {};
  order::DeputyOrder order;
  if (!order.ParseFromArray((*packet)->data.data(), static_cast<int>((*packet)->data.size()))) {
    log_error("an order of migrated is malformed");
    return {};
  }
  if (order.has_report()) {
    report_standing();
    return {};
  }
  move_began_ = Clock::now();
  if (order.has_recall() && order.recall().distrusted() && kept_ && kept_->whole()) {
    const Error why = refusal("it is not trusted any more");
    report_move(where_, "home", why, "asked");
    if (!goes_back(why, /*listens=*/false)) lost(why);
  } else if (order.has_recall()) {
    come_home(order.recall().reason().empty() ? "asked" : order.recall().reason());
  } else if (order.has_hop() && (*packet)->fds.size() == 1) {
    hop(order.hop(), std::move((*packet)->fds.front()));
  } else {
    log_error("an order of migrated is not understood");
  }
  return {};
}

// ---------------------------------------------------------------------------- home

void Deputy::come_home(const std::string& reason) {
  if (reason != "asked") move_began_ = Clock::now();
  // One that is held for a silent guest is not to be lost for an order.
  const Status heard = check_silence(kLease);
  if (!heard && reason != "asked") postponed_ = reason;
  const Status outcome = heard ? rebuild_at_home() : heard;
  if (done_) return;  // it ended before it could be stopped
  report_move(where_, "home", outcome, reason);
  if (!outcome) {
    stay(outcome.error());
    return;
  }
  static_cast<void>(channel_->send(type(FrameType::kDiscard), {}));
  static_cast<void>(channel_->close());
  done_ = true;
}

void Deputy::stay(const Error& why) {
  log_error("job {}: {}", job_, why.message());
  Status status = await_answer();
  if (done_) return;
  if (status) status = channel_->send(type(FrameType::kImageRefused), {});
  if (status) status = server_->end_recall();
  if (!status) lost(status.error());
}

// A guest that was told to leave answers once; what it had sent until then is of no use now.
Status Deputy::await_answer() {
  if (bounds_)
    bounds_->begin_anew(Clock::now(), lease_);
  else
    bounds_.emplace(Clock::now(), machine_memory(),
                    std::max<Clock::duration>(kHopAnswerGrace, lease_));
  while (answer_due_) {
    DROVER_TRY(const std::optional<Frame> frame, hear_leaver());
    if (done_) return {};
    if (!frame) continue;
    heard_ = Clock::now();
    if (is_answer(*frame)) break;
    const auto kind = static_cast<FrameType>(frame->type);
    if (kind == FrameType::kLayout || kind == FrameType::kPages || kind == FrameType::kState ||
        kind == FrameType::kNeedHome) {
      continue;
    }
    DROVER_CHECK(on_body_frame(*frame));
  }
  return {};
}

bool Deputy::is_answer(const Frame& frame) {
  const auto kind = static_cast<FrameType>(frame.type);
  if (kind != FrameType::kImageEnd && kind != FrameType::kImageSent && kind != FrameType::kFailed) {
    return false;
  }
  answer_due_ = false;
  return true;
}

/// A frame of a guest that was told to leave, if one comes in a heartbeat's time. The guest has to
/// get on with it; and the process's user, who may lose patience before we do, may kill it.
Result<std::optional<Frame>> Deputy::hear_leaver() {
  DROVER_CHECK(server_->look());
  const auto event = server_->take_event();
  if (event && event->kind == HomeEvent::Kind::kEnded) {
    DROVER_CHECK(on_event(*event));
    return std::optional<Frame>();
  }
  static_cast<void>(say_alive());  // what has come can be taken all the same
  DROVER_TRY(std::optional<Frame> frame, channel_->receive());
  if (frame) DROVER_CHECK(bounds_->take(*frame, Clock::now()));
  const auto patience = bounds_->patience(Clock::now());
  if (patience.count() == 0) return Error{ETIMEDOUT, "the image that is to come home"};
  if (frame) return frame;
  pollfd ready{channel_->poll_fd(), POLLIN, 0};
  poll(&ready, 1, static_cast<int>(std::min(patience, kHeartbeatPeriod).count()));
  return std::optional<Frame>();
}

Status Deputy::rebuild_at_home() {
  figures_ = {};
  DROVER_CHECK(server_->begin_recall());
  const auto event = server_->take_event();
  if (event && event->kind == HomeEvent::Kind::kEnded) return on_event(*event);
  DROVER_CHECK(fault_point("deputy.home.call-settled"));
  const auto stopped_at = Clock::now();
  DROVER_CHECK(channel_->send(type(FrameType::kRecall), {}));
  answer_due_ = true;
  bounds_.emplace(Clock::now(), machine_memory());
  DROVER_CHECK(fault_point("deputy.home.recalled"));

  HomeRebuild rebuild(process_->threads, process_->memory, process_->contents,
                      process_->kept_pages);
  ProcessState state;
  DROVER_CHECK(take_image(rebuild, state));
  if (done_) return {};
  DROVER_CHECK(fault_point("deputy.home.pages-taken"));
  DROVER_CHECK(rebuild.load(state));
  DROVER_CHECK(fault_point("deputy.home.loaded"));
  DROVER_CHECK(server_->notice_stop());
  const auto end = server_->take_event();
  if (end && end->kind == HomeEvent::Kind::kEnded) return on_event(*end);
  add_untold(state, *server_);
  DROVER_CHECK(server_->give_back_timers(cpu_used_by(state)));
  DROVER_CHECK(rebuild.finish(state));
  figures_.freeze = Clock::now() - stopped_at;
  // It runs at home: nothing can fail any more.
  static_cast<void>(fault_point("deputy.home.resumed"));
  return {};
}

// As long as P can go on from where it left if this fails, nothing is done to it before all has
// come.
Status Deputy::take_image(HomeRebuild& rebuild, ProcessState& state) {
  std::optional<Layout> layout;
  WaitingImage waiting(kept_ && kept_->whole() ? free_memory() / 2 : 0);
  const auto take_waiting = [&]() -> Status {
    while (const auto frame = waiting.next()) {
      DROVER_CHECK(take_part(*frame, rebuild, layout, state));
      static_cast<void>(say_alive());
    }
    return {};
  };
  for (;;) {
    DROVER_TRY(std::optional<Frame> next, hear_leaver());
    if (done_) return {};
    if (!next) continue;
    Frame& frame = *next;
    if (is_answer(frame) && frame.type == type(FrameType::kFailed)) return failure_of(frame);
    if (frame.type == type(FrameType::kImageEnd)) {
      DROVER_CHECK(take_waiting());
      if (!layout || state.threads.empty()) return refusal("the image is not complete");
      heard_ = Clock::now();
      return {};
    }
    if (frame.type == type(FrameType::kNeedHome)) continue;  // it is on its way already
    if (is_of_the_image(frame)) {
      const bool waits = !layout && waiting.put(frame);
      if (waits) continue;
      DROVER_CHECK(take_waiting());
      DROVER_CHECK(take_part(frame, rebuild, layout, state));
      continue;
    }
    DROVER_CHECK(on_body_frame(frame));
    const auto event = server_->take_event();
    if (event && event->kind == HomeEvent::Kind::kEnded) return on_event(*event);
  }
}

Status Deputy::take_part(const Frame& frame, HomeRebuild& rebuild, std::optional<Layout>& layout,
                         ProcessState& state) {
  if (frame.type == type(FrameType::kState)) {
    DROVER_TRY(state, ProcessState::decode(frame.payload, channel_->protocol()));
    if (state.cpu) remote_cpu_.report(state.cpu->used.runtime);
    return {};
  }
  if (frame.type == type(FrameType::kPages)) {
    if (!layout) return refusal("pages before the layout");
    DROVER_TRY(const std::uint64_t n,
               receive_pages(process_->memory, layout->areas, frame.payload));
    figures_.bytes += n;
    return {};
  }
  if (layout) return refusal("a second layout in the image");
  DROVER_TRY(layout, Layout::decode(frame.payload));
  if (layout->scratch != process_->threads.front().scratch().range()) {
    return refusal("the image has another scratch");
  }
  if (kept_) kept_->give_up("what it was when it left has made room for it on its way home");
  DROVER_CHECK(rebuild.lay_out(*layout));
  return fault_point("deputy.home.laid-out");
}

// ---------------------------------------------------------------------------- reports

void Deputy::report_move(const std::string& from, const std::string& to, const Status& outcome,
                         const std::string& reason) {
  order::DeputyEvent event;
  auto* ended = event.mutable_move_ended();
  ended->set_ok(outcome.ok());
  if (!outcome) ended->set_error(reason_of(outcome.error()));
  ended->set_from(from == home_node_ ? "home" : from);
  ended->set_to(to);
  ended->set_epoch(epoch_);
  ended->set_freeze_ns(static_cast<std::uint64_t>(figures_.freeze.count()));
  ended->set_bytes(figures_.bytes);
  ended->set_duration_ns(static_cast<std::uint64_t>((Clock::now() - move_began_).count()));
  ended->set_reason(reason);
  ++(outcome ? moves_ : failed_moves_);
  static_cast<void>(control_.say(counters()));
  static_cast<void>(control_.say(event));
}

/// What went wrong because the process has been killed is of no interest.
std::string Deputy::reason_of(const Error& why) const {
  return why.code == ESRCH || has_ended(pid_) ? "the process has ended" : why.message();
}

order::DeputyEvent Deputy::counters() const {
  order::DeputyEvent event;
  auto* counters = event.mutable_counters();
  for (const auto& [number, count] : counters_.calls) {
    auto* call = counters->add_calls();
    call->set_number(number);
    call->set_served(count.served);
    call->set_forced_home(count.forced_home);
  }
  counters->set_moves(moves_);
  counters->set_failed_moves(failed_moves_);
  if (process_) counters->set_away_ns(static_cast<std::uint64_t>((Clock::now() - left_).count()));
  counters->set_remote_cpu_ns(remote_cpu_.total_ns());
  counters->set_kept(kept_ && kept_->whole());
  if (kept_) counters->set_why_not(kept_->why_not());
  return event;
}

/// To a migrated that has been started again, and may not know what its predecessor has heard.
void Deputy::report_standing() {
  order::DeputyEvent event;
  event.mutable_standing()->set_where(where_);
  event.mutable_standing()->set_epoch(epoch_);
  event.mutable_standing()->set_moves(moves_);
  event.mutable_standing()->set_silent(said_silent_);
  event.mutable_standing()->set_body_lost(body_lost_);
  event.mutable_standing()->set_stopped(said_stopped_);
  event.mutable_standing()->set_oldest_protocol(kOldestProtocol);
  event.mutable_standing()->set_newest_protocol(kNewestProtocol);
  static_cast<void>(control_.say(counters()));
  static_cast<void>(control_.say(event));
}

void Deputy::report_ended(int wait_status, const std::string& message) {
  order::DeputyEvent event;
  event.mutable_ended()->set_wait_status(wait_status);
  event.mutable_ended()->set_message(message);
  static_cast<void>(control_.say(event));
}

void Deputy::over(int wait_status) {
  static_cast<void>(channel_->send(type(FrameType::kDiscard), {}));
  static_cast<void>(channel_->close());
  static_cast<void>(control_.say(counters()));
  report_ended(wait_status, "");
  done_ = true;
}

/// The body is lost, or P is beyond us: if it cannot go on from where it left, the process ends,
/// and its user is told why. One that has ended by itself is beyond us, too, but not lost.
void Deputy::lost(const Error& seen) {
  const Error why = last_words().value_or(seen);
  // What a thread that is held does not know any more is being killed.
  const auto deadline = Clock::now() + kEndPatience;
  while (why.code == ESRCH && !has_ended(pid_) && Clock::now() < deadline) usleep(10'000);
  if (!has_ended(pid_) && goes_back(why, /*listens=*/true)) return;
  const bool ended = has_ended(pid_);
  std::string text = "the process was on " + where_ + ", which is lost: " + why.message();
  if (kept_ && !kept_->whole()) text += "; it cannot go on at home: " + kept_->why_not();
  if (!ended) {
    log_error("job {}: {}", job_, text);
    tell_user(text);
  }
  kill(pid_, SIGKILL);
  const std::optional<int> status = await_end();
  if (ended && status) return over(*status);
  report_ended(status.value_or(SIGKILL), text);
  done_ = true;
}

/// What a guest that is gone had said before: we may not have come to reading it.
std::optional<Error> Deputy::last_words() {
  constexpr int kMostUnread = 10'000;
  if (!channel_ || body_over_) return std::nullopt;
  for (int i = 0; i < kMostUnread; ++i) {
    const auto frame = channel_->receive();
    if (!frame || !*frame) break;
    body_over_ = tells_end(**frame);
    if (body_over_) return failure_of(**frame);
  }
  return std::nullopt;
}

/// How P, which is being killed, has ended; nothing if that cannot be known any more.
std::optional<int> Deputy::await_end() const {
  if (server_ && server_->wait_status()) return server_->wait_status();
  // Of the other threads the end is told as well, and theirs first.
  for (;;) {
    int status = 0;
    const pid_t one = waitpid(-1, &status, __WALL);
    if (one < 0 && errno != EINTR) return std::nullopt;
    if (one == pid_ && !WIFSTOPPED(status)) return status;
  }
}

void Deputy::tell_user(const std::string& text) const {
  const OwnedFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  const OwnedFd err(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), STDERR_FILENO, 0)));
  if (!err) return;
  const std::string line = "drover: " + std::to_string(pid_) + ": " + text + "\n";
  pollfd takes{err.get(), POLLOUT, 0};
  if (poll(&takes, 1, 0) != 1) return;  // a reader that is in no hurry is not waited for
  if (write(err.get(), line.data(), line.size()) < 0) log_warn("cannot tell the job's user");
}

}  // namespace drover
