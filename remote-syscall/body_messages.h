// What the two ends of a body's data channel say to each other: the frame types of the whole
// channel, and the messages that have to do with system calls and signals. The image of a
// process travels on the same channel; its messages are in migrate/image.h.
#pragma once

#include <array>
#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "common/frame.h"
#include "common/process/schedule.h"
#include "common/process/traced_thread.h"
#include "common/wire.h"

namespace drover {

enum class FrameType : std::uint16_t {
  kHello = 1,  // both ways, first: Hello
  kClockAsk,   // guest: what do home's clocks say
  kClockTell,  // deputy: ClockReading
  kClockDone,  // guest: it knows enough

  // The image of a process, from where it is to where it goes.
  kIdentity = 10,  // who it is: the place is made
  kOfferContent,   // contents of file mappings, by key: ContentOffer
  kWantContent,    // the answer: which of them are not at hand
  kContent,        // a piece of one of them
  kLayout,         // the areas of memory
  kPages,          // an address and bytes
  kState,          // threads, signal actions, memory fields
  kImageEnd,

  // Agreeing on a move. The deputy decides; nobody else does.
  kReady = 30,    // the body is built and waits
  kFailed,        // it could not be built: words
  kCommit,        // the body may run: Commit
  kRunning,       // it does
  kRecall,        // deputy: stop the body and send its image home
  kHop,           // deputy: stop the body and send its image to another guest: HopOrder
  kImageRefused,  // the image could not be taken where it was sent: the body goes on
  kImageSent,     // guest: a hop's image has gone; kFailed: it has not
  kDiscard,       // the body is no longer needed
  kHeartbeat,     // both ways
  kEnded,         // guest: nothing of the body is left, and why: the answer to kDiscard, or unasked

  // While it runs away.
  kCall = 60,  // guest: CallRequest with its sequence number
  kReply,      // deputy: CallOutcome
  kMask,       // guest: the thread's signal mask is now this (one way)
  kAction,     // guest: the program's action for a signal is now this (one way)
  kSignal,     // deputy: deliver this; guest: it was blocked by then, take it back
  kExit,       // guest: the body asked to end with this status
  kFatal,      // guest: this signal kills it
  kMaskSet,    // deputy: the answer to a kMask that wants one
  kNeedHome,   // guest: the thread is at a call that only home can execute
  kThreads,    // guest: all threads of the body: what was said of another one's end was lost

  // Since version 2.
  kLimits = 75,  // deputy: the program's limits of memory are now these: MemoryLimits
  kCpuUsed,      // guest: what the body has used: CpuUsedMessage
  kCpuWatch,     // deputy: when it wants to be told of that: CpuWatchMessage
  kSchedule,     // deputy: a thread is scheduled so now: ScheduleMessage
  kStop = 85,    // deputy: a signal has stopped the process: the body is to stand still
  kContinue,     // deputy: it goes on
  kMaskAfter,    // guest: instead of kMask: MaskAfter
};

/// As it stands in the head of a frame.
constexpr std::uint16_t type(FrameType t) { return static_cast<std::uint16_t>(t); }

/// What a kFailed says.
Error failure_of(const Frame& frame);

/// The action for a signal as the kernel keeps it (struct sigaction of rt_sigaction(2)).
struct KernelSigaction {
  std::uint64_t handler = 0;
  std::uint64_t flags = 0;
  std::uint64_t restorer = 0;
  std::uint64_t mask = 0;

  bool operator==(const KernelSigaction&) const = default;
};
inline constexpr int kSignalCount = 64;

struct Hello {
  std::uint32_t version = 0;  ///< of the protocol, as agreed by the two nodes
  std::string job;
  std::uint64_t epoch = 0;

  Bytes encode() const;
  static Result<Hello> decode(ByteView data);
};

/// Whether `who`, at the other end of a channel, has said what was agreed.
Status check_hello(const Hello& said, const Hello& agreed, const std::string& who);

/// What goes with a kCommit.
struct Commit {
  /// How long the body may run without a word from home, once it has heard one.
  std::uint32_t lease_ms = 0;
};

/// What goes with a kHeartbeat of a guest.
struct GuestHeartbeat {
  std::uint64_t cpu_ns = 0;
};

/// How a forwarded call ended.
enum class CallEnd : std::uint8_t {
  kDone,         ///< executed: its result follows
  kInterrupted,  ///< a signal that the program handles came first: the result is -ERESTART*
  kDisturbed,    ///< a stop of ours, or a signal that the program ignores, ended it: it goes on
  kHeld,         ///< the same, or done; it goes on only when the body runs again, here or elsewhere
  kGoHome,       ///< cannot be executed for a process that is away: it must come home for it
};

/// Head of a kReply frame; a CallReply follows.
struct OutcomeHead {
  std::int32_t tid = 0;
  std::uint64_t sequence = 0;
  CallEnd end = CallEnd::kDone;

  void encode(WireWriter& writer) const;
  static Result<OutcomeHead> decode(WireReader& reader);
};

/// Whether the kernel knows a signal of this number: signals come from the network as well.
constexpr bool is_signal(int number) { return number >= 1 && number <= kSignalCount; }

struct ActionMessage {
  std::int32_t signal = 0;
  std::int32_t tid = 0;  ///< the thread that has changed it
  KernelSigaction action;

  static Result<ActionMessage> decode(ByteView data);
};

struct MaskMessage {
  std::int32_t tid = 0;
  std::uint32_t wants_answer = 0;  ///< kMaskSet, once what it unblocks has been told
  SignalMask mask = 0;
};

/// kMaskAfter. Of the signals that the thread's home has told by then, and that are not seen yet,
/// those that the program blocks now are void: the guest forgets them, and home gives them back to
/// the process, all at once and before those that have come since.
struct MaskAfter {
  MaskMessage mask;
  SignalMask kept = 0;  ///< blocked by handlers only: these wait for the handlers' ends in the body
  std::uint64_t signals_seen = 0;  ///< of those told over this channel
};

/// kMaskSet.
struct MaskSet {
  std::int32_t tid = 0;
};

struct SignalMessage {
  std::int32_t tid = 0;  ///< the thread it is for
  /// By home, since version 2: it knows that the program blocks it, or has just unblocked it.
  std::uint8_t although_blocked = 0;
  std::array<std::uint8_t, 3> reserved{};
  siginfo_t info{};

  static Result<SignalMessage> decode(ByteView data);
};

struct ExitMessage {
  std::int32_t tid = 0;
  std::int32_t status = 0;
  std::uint8_t whole_process = 1;
  std::array<std::uint8_t, 3> reserved{};
};

struct FatalMessage {
  std::int32_t tid = 0;
  std::uint32_t reserved = 0;
  siginfo_t info{};

  static Result<FatalMessage> decode(ByteView data);
};

/// kThreads.
struct ThreadsMessage {
  std::vector<std::int32_t> tids;

  Bytes encode() const;
  static Result<ThreadsMessage> decode(ByteView data);
};

/// kSchedule.
struct ScheduleMessage {
  std::int32_t tid = 0;
  std::int32_t zero = 0;
  Schedule schedule;

  static Result<ScheduleMessage> decode(ByteView data);
};

struct NeedHome {
  /// Instead of a call: a fault of the program's own, or more signals than it keeps up with.
  static constexpr std::int32_t kFault = -1;
  static constexpr std::int32_t kSignals = -2;

  std::int32_t tid = 0;
  std::int32_t call = kFault;
};

template <>
inline constexpr bool kHasNoHoles<SignalMessage> = sizeof(SignalMessage) ==
                                                   4 + 1 + 3 + sizeof(siginfo_t);
template <>
inline constexpr bool kHasNoHoles<FatalMessage> = sizeof(FatalMessage) == 4 + 4 + sizeof(siginfo_t);

/// Encodes a message that is a plain record.
template <class T>
Bytes encode_record(const T& message) {
  WireWriter w;
  w.record(message);
  return w.take();
}
template <class T>
Result<T> decode_record(ByteView data, const char* what) {
  WireReader r(data);
  const T message = r.record<T>();
  DROVER_CHECK(r.finish(what));
  return message;
}

}  // namespace drover
