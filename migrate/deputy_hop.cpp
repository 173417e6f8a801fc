// The deputy's part of a hop: the image goes from one guest to another, and home decides.
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "common/fault.h"
#include "common/silence.h"
#include "common/tls_socket.h"
#include "migrate/body_end.h"
#include "migrate/deputy.h"
#include "migrate/lease.h"

namespace drover {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::minutes kHopPatience{10};
/// For an image that may be on its way from a guest that is lost: until the target says that it
/// takes it, and from one such word to the next.
constexpr std::chrono::seconds kFirstSignPatience{1};
constexpr std::chrono::seconds kNextSignPatience{3};
/// For the source's answer when the target has the image already; the target waits for the commit
/// (see Guest::await_commit).
constexpr std::chrono::seconds kLastWordsPatience{1};
constexpr std::chrono::seconds kRunPatience{5};

}  // namespace

void Deputy::hop(const order::Hop& order, OwnedFd socket) {
  figures_ = {};
  const std::string from = where_;
  auto target =
      open_channel(std::move(socket), order.key(), order.epoch(), protocol_said(order.protocol()));
  Status outcome = target ? check_silence(kLease) : Status(target.error());
  if (outcome) outcome = hop_to(order, *target);
  if (done_) return;
  if (outcome) {
    where_ = order.target();
    epoch_ = order.epoch();
    static_cast<void>(channel_->send(type(FrameType::kDiscard), {}));
    static_cast<void>(channel_->close());
    channel_.emplace(*std::move(target));
    Status status = server_->attach(*channel_, target_told_of_stop_);
    answer_due_ = false;  // of the guest that was left; the new one has not been asked
    body_over_ = false;
    heard_ = Clock::now();
    report_move(from, where_, outcome, "asked");
    if (status) status = notice_silence(channel_->poll_fd(), lease_);
    if (status) status = server_->end_recall();
    if (!status) lost(status.error());
    return;
  }
  const std::uint64_t epoch = std::exchange(epoch_, order.epoch());
  report_move(from, order.target(), outcome, "asked");
  epoch_ = epoch;
  if (target) static_cast<void>(target->close());
  stay(outcome.error());
}

Status Deputy::hop_to(const order::Hop& order, SecureChannel& target) {
  if (server_->stop_begun() && target.protocol() < kFirstWithStops) {
    return refusal("it is stopped by a signal, which " + order.target() + " cannot have it be");
  }
  DROVER_CHECK(fault_point("deputy.hop.connected"));
  HopOrder hop_order;
  hop_order.epoch = order.epoch();
  hop_order.address = order.source_address();
  hop_order.protocol_between = std::min(channel_->protocol(), target.protocol());
  if (order.source_ticket().size() != hop_order.ticket.size()) {
    return refusal("the source ticket has a wrong length");
  }
  std::memcpy(hop_order.ticket.data(), order.source_ticket().data(), hop_order.ticket.size());
  if (getentropy(hop_order.key.data(), hop_order.key.size()) != 0) {
    return errno_error("make a channel key");
  }
  DROVER_CHECK(target.send(type(FrameType::kHop), hop_order.encode(target.protocol())));
  DROVER_CHECK(server_->begin_recall());
  const auto event = server_->take_event();
  if (event && event->kind == HomeEvent::Kind::kEnded) return on_event(*event);
  const auto stopped_at = Clock::now();
  DROVER_CHECK(channel_->send(type(FrameType::kHop), hop_order.encode(channel_->protocol())));
  answer_due_ = true;
  bounds_.reset();
  DROVER_CHECK(fault_point("deputy.hop.ordered"));
  DROVER_CHECK(await_hop(target));
  if (done_) return {};
  DROVER_CHECK(fault_point("deputy.hop.ready"));
  forgo_kept(order.target(), target);
  DROVER_CHECK(commit_hop(target));
  figures_.freeze = Clock::now() - stopped_at;
  return {};
}

// The old place hears of us all the time: if the hop fails, the process goes on there. If that is
// lost, the image may have left it before: the target knows.
Status Deputy::await_hop(SecureChannel& target) {
  const auto latest = Clock::now() + kHopPatience;
  auto deadline = latest;
  std::optional<Error> source_gone;
  bool ready = false;
  while (Clock::now() < deadline) {
    DROVER_TRY(const std::optional<Frame> answer, target.receive());
    if (answer && answer->type == type(FrameType::kHeartbeat)) {
      const auto next_sign = std::min(latest, Clock::now() + kNextSignPatience);
      if (source_gone) deadline = std::max(deadline, next_sign);
      continue;
    }
    if (answer && answer->type == type(FrameType::kReady)) {
      ready = true;
      deadline = Clock::now() + kLastWordsPatience;
    }
    if (answer && answer->type == type(FrameType::kFailed)) {
      // If that is because the source sends nothing, it has said so before.
      std::optional<Error> refused;
      while (!source_gone && !refused && !done_) {
        const auto heard = hear_source(refused);
        if (!heard || !*heard) break;
      }
      return done_ ? Status{} : refused.value_or(failure_of(*answer));
    }
    // What the source has said of the program comes before its answer.
    if (ready && (source_gone || !answer_due_)) return {};
    bool heard = answer.has_value();
    if (!source_gone) {
      std::optional<Error> refused;
      const auto from_source = hear_source(refused);
      if (done_) return {};
      if (refused) return *refused;
      if (from_source) {
        heard = heard || *from_source;
      } else {
        source_gone = from_source.error();
        if (answer_due_) deadline = std::min(deadline, Clock::now() + kFirstSignPatience);
      }
    }
    if (heard) continue;
    pollfd ready[] = {{target.poll_fd(), POLLIN, 0},
                      {source_gone ? -1 : channel_->poll_fd(), POLLIN, 0}};
    poll(ready, 2, static_cast<int>(std::min(kHeartbeatPeriod, time_left(deadline)).count()));
  }
  if (ready) return {};
  return source_gone ? *source_gone : refusal("the image did not arrive in time");
}

/// Takes a frame of the guest that was told to leave, if one is there: whether one was. An error
/// means that the guest is lost; `refused` is why it does not leave.
Result<bool> Deputy::hear_source(std::optional<Error>& refused) {
  DROVER_TRY(const std::optional<Frame> frame, channel_->receive());
  if (frame && is_answer(*frame)) {
    heard_ = Clock::now();
    if (frame->type == type(FrameType::kFailed)) refused = failure_of(*frame);
    if (frame->type == type(FrameType::kImageSent)) {
      DROVER_TRY(const auto sent, decode_record<ImageSent>(frame->payload, "image sent"));
      figures_.bytes = sent.bytes;
    }
  } else if (frame && frame->type != type(FrameType::kNeedHome)) {
    DROVER_CHECK(on_body_frame(*frame));
  }
  DROVER_CHECK(server_->look());
  const auto event = server_->take_event();
  if (event && event->kind == HomeEvent::Kind::kEnded) DROVER_CHECK(on_event(*event));
  DROVER_CHECK(check_silence(kLease));
  DROVER_CHECK(beat());
  return frame.has_value();
}

Status Deputy::commit_hop(SecureChannel& target) {
  bool is_over = false;
  const auto committed_at = Clock::now();
  target_told_of_stop_ = server_->stop_begun() && target.protocol() >= kFirstWithStops;
  const auto run = [&]() -> Status {
    if (target_told_of_stop_) DROVER_CHECK(target.send(type(FrameType::kStop), {}));
    DROVER_CHECK(target.send(type(FrameType::kCommit), encode_record(commit())));
    DROVER_CHECK(fault_point("deputy.hop.commit-sent"));
    Frame answer;
    do {
      DROVER_TRY(answer, target.receive_within(time_left(committed_at + kRunPatience)));
    } while (answer.type == type(FrameType::kHeartbeat));
    is_over = answer.type == type(FrameType::kFailed);
    if (is_over) return failure_of(answer);
    if (answer.type != type(FrameType::kRunning)) return refusal("unexpected answer of the guest");
    return fault_point("deputy.hop.running");
  };
  Status committed = run();
  // It may run there all the same: only when it has ended may it go on where it was.
  if (!committed && !is_over) {
    end_body(target, committed_at, [this] { static_cast<void>(say_alive()); });
  }
  // The body has its lease from our first word on: without this one, a cut just now would cost it.
  if (committed) static_cast<void>(target.send(type(FrameType::kHeartbeat), {}));
  return committed;
}

}  // namespace drover
