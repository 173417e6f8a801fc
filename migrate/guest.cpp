#include "migrate/guest.h"

#include <poll.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ctime>

#include "common/fault.h"
#include "common/log.h"
#include "common/silence.h"
#include "common/tls_socket.h"
#include "migrate/cache_server.h"

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{20};
constexpr std::chrono::seconds kHandshake{5};
/// For home's answer to a call, once it has told us to leave.
constexpr std::chrono::milliseconds kFreezePatience{10'000};
/// migrated tries every address of the other node.
constexpr std::chrono::seconds kDialPatience{20};
/// A migrated that does not read what it is asked: less than a lease, for the process waits.
constexpr std::chrono::seconds kUnheardPatience{3};

template <std::size_t N>
Result<std::array<std::byte, N>> exact_bytes(const std::string& text, const char* what) {
  std::array<std::byte, N> out;
  if (text.size() != N) return refusal(std::string(what) + " has a wrong length");
  std::memcpy(out.data(), text.data(), N);
  return out;
}

std::int64_t now_ns(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

/// The channel between two guests. Home has told both what is spoken on it.
Result<SecureChannel> open_between(OwnedFd socket, ChannelRole role, const HopOrder& order) {
  DROVER_TRY(SecureChannel channel,
             SecureChannel::open(std::move(socket), role, order.key, kHandshake));
  channel.speak(order.protocol_between);
  return channel;
}

OwnedFd child_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, CpuAlarm::signal());
  sigprocmask(SIG_BLOCK, &set, nullptr);
  return OwnedFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace

int Guest::run() {
  Status outcome = start();
  if (outcome) outcome = take_image();
  if (outcome) outcome = await_commit();
  const bool has_run = outcome.ok();
  if (outcome) outcome = serve();
  end_body();
  if (!outcome) log_error("job {}: {}", job_, outcome.error().message());
  say_last(has_run ? FrameType::kEnded : FrameType::kFailed, outcome);
  return outcome ? 0 : 1;
}

void Guest::end_body() {
  alarm_.stop();  // it is killed at once, but may take its time to go
  supervisor_.reset();
  body_.reset();
  if (sandbox_) sandbox_->destroy();
}

/// Home may let the process go on where it was: there is no body here any more.
void Guest::say_last(FrameType word, const Status& outcome) {
  if (!home_) return;
  WireWriter w;
  w.text(outcome ? "told to end" : outcome.error().message());
  if (home_->send(type(word), w.data())) static_cast<void>(home_->close());
}

Status Guest::start() {
  std::vector<OwnedFd> fds;
  DROVER_TRY(const auto order, next_order(fds, std::chrono::seconds(60)));
  if (!order.has_host_body() || fds.size() < 2 || fds.size() > 3) {
    return refusal("the first order is not HostBody");
  }
  control_.keep(std::move(fds[1]));
  if (fds.size() == 3) {
    contents_ = std::make_unique<CacheClient>(LocalSocket(std::move(fds[2])));
  } else {
    contents_ = std::make_unique<MemoryStore>();
  }
  const order::HostBody& host = order.host_body();
  hosting_.job_uid = host.job_uid();
  hosting_.job_gid = host.job_gid();
  hosting_.outer_uid = host.outer_uid();
  job_ = host.job();
  epoch_ = host.epoch();
  const std::uint32_t protocol = protocol_said(host.protocol());
  DROVER_CHECK(check_spoken(protocol, "its guest"));
  DROVER_TRY(const ChannelKey key, exact_bytes<32>(host.key(), "channel key"));
  DROVER_TRY(home_,
             SecureChannel::open(std::move(fds.front()), ChannelRole::kAcceptor, key, kHandshake));
  DROVER_CHECK(notice_silence(home_->poll_fd(), kLease));
  home_->speak(protocol);
  const Hello hello{protocol, job_, epoch_};
  DROVER_CHECK(home_->send(type(FrameType::kHello), hello.encode()));
  DROVER_TRY(const Frame frame, home_->receive_within(kHandshake));
  if (frame.type != type(FrameType::kHello)) return refusal("home does not say hello");
  DROVER_TRY(const Hello answer, Hello::decode(frame.payload));
  DROVER_CHECK(check_hello(answer, hello, "home"));
  DROVER_CHECK(ask_clocks());
  return fault_point("guest.image.begun");
}

// The body's clocks are set so that they are never behind home's: a sleep that home has timed is
// never seen to end early. They are ahead by at most the quickest of some round trips.
Status Guest::ask_clocks() {
  constexpr int kQuestions = 5;
  std::int64_t quickest = INT64_MAX;
  for (int i = 0; i < kQuestions; ++i) {
    const std::int64_t asked = now_ns(CLOCK_MONOTONIC);
    DROVER_CHECK(home_->send(type(FrameType::kClockAsk), {}));
    DROVER_TRY(const Frame frame, home_->receive_within(kHandshake));
    if (frame.type != type(FrameType::kClockTell)) return refusal("home does not tell its clocks");
    DROVER_TRY(const auto home, ClockReading::decode(frame.payload));
    const std::int64_t now = now_ns(CLOCK_MONOTONIC);
    if (now - asked >= quickest) continue;
    quickest = now - asked;
    hosting_.home_ahead.monotonic_ns = home.monotonic_ns + quickest - now;
    hosting_.home_ahead.boottime_ns = home.boottime_ns + quickest - now_ns(CLOCK_BOOTTIME);
  }
  return home_->send(type(FrameType::kClockDone), {});
}

Status Guest::take_image() {
  ImageReceiver receiver(hosting_, *contents_);
  std::optional<SecureChannel> source;
  for (;;) {
    SecureChannel& from = source ? *source : *home_;
    DROVER_TRY(const Frame frame, from.receive_within(kPatience));
    if (frame.type == type(FrameType::kHop)) {
      // The image comes from another guest, not from home.
      DROVER_TRY(const HopOrder expected, HopOrder::decode(frame.payload, home_->protocol()));
      DROVER_TRY(source, accept_source(expected));
      from_guest_ = true;
      continue;
    }
    if (source) DROVER_CHECK(say_alive());
    auto complete = receiver.on_frame(frame, from);
    if (!complete) {
      // Whoever sends it must not wait for an answer that will not come.
      if (source) {
        WireWriter w;
        w.text(complete.error().message());
        static_cast<void>(source->send(type(FrameType::kFailed), w.data()));
      }
      return complete.error();
    }
    if (frame.type == type(FrameType::kIdentity)) {
      DROVER_CHECK(fault_point("guest.image.place-made"));
    } else if (frame.type == type(FrameType::kLayout)) {
      DROVER_CHECK(fault_point("guest.image.laid-out"));
    } else if (frame.type == type(FrameType::kState)) {
      DROVER_CHECK(fault_point("guest.image.pages-taken"));
    }
    if (*complete) break;
  }
  DROVER_CHECK(fault_point("guest.image.loaded"));
  DROVER_TRY(body_, receiver.take_body());
  sandbox_ = receiver.take_sandbox();
  hosted_ = std::move(receiver.hosted());
  contents_.reset();  // of no more use, and nothing that a body should get at
  return filter_self();
}

// The lease begins here, not with the commit: that may have been on its way for long, but home
// sent it after this. So home knows when the lease ends although it may hear nothing any more.
Status Guest::await_commit() {
  lease_.begin();
  DROVER_CHECK(home_->send(type(FrameType::kReady), {}));
  DROVER_CHECK(fault_point("guest.image.ready-sent"));
  DROVER_TRY(Frame frame, home_->receive_within(kLease / 2));
  const bool stopped = frame.type == type(FrameType::kStop);
  if (stopped) {
    DROVER_TRY(frame, home_->receive_within(kLease / 2));
  }
  if (frame.type != type(FrameType::kCommit)) return refusal("home does not commit the move");
  DROVER_TRY(const auto commit, decode_record<Commit>(frame.payload, "commit"));
  lease_.grant(std::chrono::milliseconds(commit.lease_ms));
  DROVER_CHECK(fault_point("guest.image.committed"));
  body_->cpu = BodyCpu(*body_, hosted_.cpu.value_or(CpuAccount{}), hosted_.threads_cpu);
  body_->counts_cpu = home_->protocol() >= 2 && hosted_.cpu.has_value();
  body_->cpu_was_told = hosted_.cpu_was_told;
  supervisor_.emplace(*body_, *home_);
  supervisor_->adopt(hosted_.undelivered);
  // The commit may have waited for us: with the lease over, the process may run at home again.
  DROVER_CHECK(lease_.check());
  DROVER_CHECK(stopped ? supervisor_->stand_still() : run_body());
  DROVER_CHECK(home_->send(type(FrameType::kRunning), {}));
  if (from_guest_) DROVER_CHECK(supervisor_->declare_anew());
  DROVER_CHECK(supervisor_->tell_cpu_used());
  beaten_ = Clock::now();
  return fault_point("guest.image.running");
}

Status Guest::serve() {
  const OwnedFd children = child_signals();
  if (!children) return errno_error("watch the body");
  while (!done_) {
    DROVER_CHECK(serve_home_frames());
    DROVER_CHECK(supervisor_->look());
    if (done_) break;
    DROVER_CHECK(beat());
    pollfd ready[] = {{home_->poll_fd(), POLLIN, 0},
                      {supervisor_->frozen() ? -1 : supervisor_->listener().get(), POLLIN, 0},
                      {children.get(), POLLIN, 0}};
    const auto pause = std::min(kHeartbeatPeriod, time_left(lease_.end()));
    const auto listens = Clock::now();
    if (poll(ready, 3, static_cast<int>(pause.count())) < 0 && errno != EINTR) {
      return errno_error("wait for the body");
    }
    lease_.listened(Clock::now() - listens);
    if ((ready[2].revents & POLLIN) != 0) {
      signalfd_siginfo info;
      bool rang = false;
      while (read(children.get(), &info, sizeof info) > 0) {
        rang = rang || static_cast<int>(info.ssi_signo) == CpuAlarm::signal();
      }
      if (rang) DROVER_CHECK(supervisor_->on_cpu_alarm());
    }
    if ((ready[1].revents & POLLIN) != 0) DROVER_CHECK(supervisor_->on_notification());
  }
  return {};
}

// During long work that home sees nothing of. From a target of a hop it means that it takes the
// image.
Status Guest::say_alive() {
  const auto now = Clock::now();
  if (now - beaten_ < kHeartbeatPeriod) return {};
  beaten_ = now;
  return home_->send(type(FrameType::kHeartbeat), encode_record(GuestHeartbeat{cpu_away_ns()}));
}

Status Guest::hear_home() {
  return lease_.hear() ? notice_silence(home_->poll_fd(), lease_.length()) : Status{};
}

/// What home says while the body is being stopped, which is not to take longer than its lease.
Result<Frame> Guest::next_word() {
  const auto listens = Clock::now();
  auto frame = home_->receive_within(std::min(time_left(lease_.end()), kFreezePatience));
  lease_.listened(Clock::now() - listens);
  if (frame) DROVER_CHECK(hear_home());
  return frame;
}

Status Guest::freeze() {
  DROVER_CHECK(supervisor_->freeze([this] { return next_word(); }));
  if (supervisor_->frozen()) alarm_.stop();
  return {};
}

/// Whatever holds us up from now on, it runs no longer than its lease.
Status Guest::run_body() {
  alarm_.set(lease_.end());
  return supervisor_->run();
}

Status Guest::beat() {
  DROVER_CHECK(lease_.check());
  supervisor_->frozen() ? alarm_.stop() : alarm_.set(lease_.end());
  home_->allow_stall(time_left(lease_.end()));
  const auto now = Clock::now();
  if (now - beaten_ < kHeartbeatPeriod) return {};
  beaten_ = now;
  order::GuestEvent event;
  event.mutable_state()->set_state(supervisor_->stopped()  ? "stopped"
                                   : supervisor_->frozen() ? "frozen"
                                                           : "running");
  event.mutable_state()->set_cpu_ns(cpu_here_ns());
  control_.say_again(event);
  return home_->send(type(FrameType::kHeartbeat), encode_record(GuestHeartbeat{cpu_away_ns()}));
}

std::uint64_t Guest::cpu_here_ns() const {
  const auto used = body_ ? cpu_time_of_process(body_->pid) : Result<CpuTime>(CpuTime{});
  return used ? used->runtime : 0;
}

/// With what it has used on other nodes since it left its home, if that is known.
std::uint64_t Guest::cpu_away_ns() {
  return body_ && body_->counts_cpu ? body_->cpu.process(*body_).used.runtime : cpu_here_ns();
}

Status Guest::serve_home_frames() {
  for (;;) {
    DROVER_TRY(const std::optional<Frame> frame, home_->receive());
    if (!frame) {
      lease_.heard_out();
      return {};
    }
    DROVER_CHECK(hear_home());
    switch (static_cast<FrameType>(frame->type)) {
      case FrameType::kHeartbeat:
        break;
      case FrameType::kRecall:
        DROVER_CHECK(leave_for_home());
        break;
      case FrameType::kHop: {
        DROVER_TRY(const HopOrder order, HopOrder::decode(frame->payload, home_->protocol()));
        DROVER_CHECK(leave_for(order));
        break;
      }
      case FrameType::kImageRefused:
        // It may have waited for us, as the commit may.
        DROVER_CHECK(lease_.check());
        DROVER_CHECK(run_body());
        break;
      case FrameType::kContinue:
        DROVER_CHECK(lease_.check());  // the same
        alarm_.set(lease_.end());
        DROVER_CHECK(supervisor_->on_frame(*frame));
        break;
      case FrameType::kDiscard:
        DROVER_CHECK(fault_point("guest.leave.discarded"));
        done_ = true;
        return {};
      default:
        DROVER_CHECK(supervisor_->on_frame(*frame));
    }
  }
}

// Whoever was told to leave answers once, kImageEnd, kImageSent or kFailed, and stays frozen
// until it hears what became of its image.
Status Guest::leave_for_home() {
  const Status left = [&]() -> Status {
    DROVER_CHECK(fault_point("guest.leave.asked"));
    DROVER_CHECK(freeze());
    if (body_is_over()) return {};
    DROVER_CHECK(fault_point("guest.leave.frozen"));
    const auto sent = send_body_image(*home_, *body_, hosted_, supervisor_->undelivered(),
                                      /*with_contents=*/false);
    return sent ? Status{} : Status(sent.error());
  }();
  if (supervisor_->frozen()) lease_.stands_still();
  if (left) return body_is_over() ? Status{} : fault_point("guest.leave.image-sent");
  return say_failed(left.error());
}

Status Guest::say_failed(const Error& why) {
  WireWriter w;
  w.text(why.message());
  return home_->send(type(FrameType::kFailed), w.data());
}

Status Guest::leave_for(const HopOrder& order) {
  ImageSent sent;
  std::optional<SecureChannel> target;  // until home knows why it gets no image, if it does not
  const Status left = [&]() -> Status {
    DROVER_CHECK(fault_point("guest.leave.asked"));
    DROVER_CHECK(freeze());
    if (body_is_over()) return {};
    DROVER_CHECK(fault_point("guest.leave.frozen"));
    DROVER_TRY(target, dial(order));
    DROVER_CHECK(fault_point("guest.leave.connected"));
    DROVER_TRY(sent.bytes, send_body_image(*target, *body_, hosted_, supervisor_->undelivered(),
                                           true, [this] { return say_alive(); }));
    return target->close();
  }();
  if (supervisor_->frozen()) lease_.stands_still();
  if (body_is_over()) return {};
  if (!left) return say_failed(left.error());
  DROVER_CHECK(home_->send(type(FrameType::kImageSent), encode_record(sent)));
  return fault_point("guest.leave.image-sent");
}

Result<order::GuestOrder> Guest::next_order(std::vector<OwnedFd>& fds,
                                            std::chrono::milliseconds timeout) {
  DROVER_TRY(std::optional<Packet> packet, control_.receive(timeout));
  if (!packet) return refusal("migrated is gone");
  order::GuestOrder order;
  if (!order.ParseFromArray(packet->data.data(), static_cast<int>(packet->data.size()))) {
    return refusal("an order of migrated is malformed");
  }
  fds = std::move(packet->fds);
  return order;
}

// Answers that came too late for what was asked then.
void Guest::forget_orders() {
  std::vector<OwnedFd> fds;
  while (next_order(fds, std::chrono::milliseconds(0))) {
  }
}

Result<SecureChannel> Guest::dial(const HopOrder& order) {
  DROVER_CHECK(check_spoken(order.protocol_between, "the guest that has it"));
  DROVER_TRY(OwnedFd socket, ask_for_connection(order));
  DROVER_CHECK(notice_silence(socket.get(), kLease));
  return open_between(std::move(socket), ChannelRole::kDialler, order);
}

Result<OwnedFd> Guest::ask_for_connection(const HopOrder& order) {
  order::GuestEvent event;
  event.mutable_dial()->set_address(order.address);
  event.mutable_dial()->set_ticket(order.ticket.data(), order.ticket.size());
  forget_orders();
  const auto asked_at = Clock::now();
  DROVER_CHECK(control_.say(event));
  const auto still_there = [&]() -> Status {
    if (control_.unheard() && Clock::now() - asked_at > kUnheardPatience) {
      return refusal("migrated is gone");
    }
    return say_alive();
  };
  for (;;) {
    std::vector<OwnedFd> fds;
    DROVER_TRY(const auto answer,
               await_order(fds, time_left(asked_at + kDialPatience), still_there));
    if (answer.has_resumed()) {
      DROVER_CHECK(control_.say(event));
    } else if (answer.dialled().ticket() == event.dial().ticket()) {
      if (!answer.dialled().error().empty()) return refusal(answer.dialled().error());
      if (fds.size() != 1) return refusal("migrated dialled but sent no socket");
      return std::move(fds.front());
    }
  }
}

Result<order::GuestOrder> Guest::await_order(std::vector<OwnedFd>& fds,
                                             std::chrono::milliseconds patience,
                                             const SignOfLife& meanwhile) {
  const auto deadline = Clock::now() + patience;
  for (;;) {
    auto order = next_order(fds, kHeartbeatPeriod);
    const bool to_come = !order && order.error().code == ETIMEDOUT && Clock::now() < deadline;
    if (!to_come) return order;
    DROVER_CHECK(meanwhile());
  }
}

// Before the body is ready, home says nothing; it may give the move up.
Status Guest::home_waits() {
  DROVER_TRY(const std::optional<Frame> frame, home_->receive());
  return frame ? Status(refusal("home speaks out of turn")) : Status{};
}

Result<SecureChannel> Guest::accept_source(const HopOrder& expected) {
  DROVER_CHECK(check_spoken(expected.protocol_between, "its guest"));
  std::vector<OwnedFd> fds;
  DROVER_TRY(const auto order, await_order(fds, kPatience, [this] { return home_waits(); }));
  // Nobody can: its ticket was known to the migrated that is no more.
  if (order.has_resumed()) return refusal("migrated was restarted during the move");
  if (!order.has_accepted() || fds.size() != 1) return refusal("no guest has dialled in");
  DROVER_CHECK(notice_silence(fds.front().get(), kLease));
  return open_between(std::move(fds.front()), ChannelRole::kAcceptor, expected);
}

}  // namespace drover
