// A process in transit: everything that makes a body besides the pages of its memory.
#pragma once

#include <array>
#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "common/foreign_address.h"
#include "common/process/limits.h"
#include "common/process/schedule.h"
#include "common/process/traced_thread.h"
#include "common/protocol.h"
#include "remote-syscall/body_messages.h"
#include "remote-syscall/cpu_account.h"

namespace drover {

/// Who the process is: enough to make its place on another node.
struct Identity {
  std::string job;
  std::string home_node;
  std::string host_name;  // as the program sees them: home's
  std::string domain_name;
  std::int32_t pid = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t possible_cpus = 0;  // of home: the body is confined to these ids
  std::array<std::byte, 32> vdso_digest{};

  Bytes encode() const;
  static Result<Identity> decode(ByteView data);
};

/// The contents of a stretch of a mapped file, as the process sees it where it has not
/// written. Known by the SHA-256 of its bytes.
struct Content {
  std::array<std::byte, 32> key{};
  std::uint64_t size = 0;    // may be shorter than the mapping: the file ends there
  std::uint64_t device = 0;  // what it is at home
  std::uint64_t inode = 0;
  std::uint64_t file_offset = 0;
  std::uint64_t mapped_size = 0;
  std::uint8_t is_public = 0;  // anybody may read the file: the cache may share it
  std::string path;
};

struct ContentOffer {
  std::uint32_t first_index = 0;
  std::vector<Content> contents;

  Bytes encode() const;
  static Result<ContentOffer> decode(ByteView data);
};

/// The answer to an offer: indices of the contents to be sent, ascending.
struct ContentWant {
  std::vector<std::uint32_t> indices;

  Bytes encode() const;
  static Result<ContentWant> decode(ByteView data);
};

/// kClockTell: home's clocks.
struct ClockReading {
  std::int64_t monotonic_ns = 0;
  std::int64_t boottime_ns = 0;

  static Result<ClockReading> decode(ByteView data);
};

/// kImageSent: what a hop has cost.
struct ImageSent {
  std::uint64_t bytes = 0;  // of contents and pages
};

/// Head of a kContent frame; the bytes follow.
struct ContentPiece {
  std::uint32_t index = 0;
  std::uint32_t zero = 0;
  std::uint64_t offset = 0;
};

/// Head of a kPages frame; the bytes follow.
struct PagesHead {
  std::uint64_t address = 0;
};

enum class AreaKind : std::uint8_t { kAnonymous, kContent, kStack };

/// One area of the process's memory.
struct Area {
  enum Flag : std::uint32_t {
    kNoReserve = 1,
    kDontFork = 2,
    kWipeOnFork = 4,
    kHugePage = 8,
    kNoHugePage = 16,
    kDontDump = 32,
    kLocked = 64,
    kDroppable = 128,
    kWasShared = 256,  // a shared mapping at home: of a content read-only, otherwise written back
  };
  static constexpr std::uint32_t kAllFlags = 2 * kWasShared - 1;
  ForeignRange range;
  std::uint32_t protection = 0;
  AreaKind kind = AreaKind::kAnonymous;
  std::uint32_t flags = 0;
  std::uint32_t content = 0;  // index, for kContent
  std::uint64_t content_offset = 0;

  bool operator==(const Area&) const = default;
};

/// A mapping of the kernel's own: vDSO and its data pages.
struct SpecialArea {
  ForeignRange range;
  std::string name;
};

struct Layout {
  ForeignRange scratch;
  std::uint64_t brk = 0;
  std::vector<Area> areas;
  std::vector<SpecialArea> specials;

  Bytes encode() const;
  static Result<Layout> decode(ByteView data);
};

/// struct prctl_mm_map without its last two fields (prctl(2), PR_SET_MM_MAP).
struct MemoryFields {
  std::uint64_t start_code = 0, end_code = 0;
  std::uint64_t start_data = 0, end_data = 0;
  std::uint64_t start_brk = 0, brk = 0;
  std::uint64_t start_stack = 0;
  std::uint64_t arg_start = 0, arg_end = 0;
  std::uint64_t env_start = 0, env_end = 0;
};

struct ThreadState {
  std::int32_t tid = 0;
  Registers registers{};
  SignalMask mask = 0;
  SignalMask mask_at_home = 0;         // what P was last told
  SignalMask blocked_by_handlers = 0;  // of that: what handlers block while they run
  RseqRegistration rseq;
  std::uint64_t robust_list = 0;
  std::uint64_t robust_list_size = 0;
  std::uint64_t clear_child_tid = 0;
  stack_t alternate_stack{};
  std::string name;
  Bytes extended_state;
  std::vector<siginfo_t> undelivered;  // told to the body's thread, not yet delivered there
  // From protocol 2 on.
  CpuAccount cpu;                         // of this absence
  std::optional<Schedule> schedule = {};  // at home
};

struct ProcessState {
  MemoryFields memory;
  Bytes auxiliary_vector;
  std::uint64_t personality = 0;
  std::uint64_t extended_permission = 0;  // ARCH_GET_XCOMP_PERM: which large state it may use
  std::uint64_t membarrier = 0;  // registrations, as MEMBARRIER_CMD_GET_REGISTRATIONS gives them
  std::array<KernelSigaction, kSignalCount> actions{};
  std::vector<ThreadState> threads;  // the leading thread first
  // The process's own clocks when it was stopped.
  std::int64_t coarse_ns = 0;  // CLOCK_MONOTONIC_COARSE
  std::int64_t monotonic_ns = 0;
  std::int64_t boottime_ns = 0;
  // From protocol 2 on.
  std::optional<MemoryLimits> limits;
  std::optional<CpuAccount> cpu;  // of this absence; nothing: it has been where that is not counted
  bool cpu_was_told = false;      // to the program: such a time never steps back

  /// As a peer of this version of the protocol reads it: without what it has no field for.
  Bytes encode(std::uint32_t protocol = kNewestProtocol) const;
  static Result<ProcessState> decode(ByteView data, std::uint32_t protocol = kNewestProtocol);
};

/// Whether a process may go on, on another node, from what is left of its state in this version of
/// the protocol. If not, what that cannot carry, in words. (What it cannot carry home is not needed
/// there.)
Status check_carries(std::uint32_t protocol, const ProcessState& state);

/// Where a frozen body is to be sent: the order of a deputy to the guest that has it.
struct HopOrder {
  std::string address;
  std::array<std::byte, 16> ticket{};
  std::array<std::byte, 32> key{};
  std::uint64_t epoch = 0;
  /// Spoken between the two guests, which do not greet each other. The first where one of them
  /// speaks only that with home.
  std::uint32_t protocol_between = kFirstProtocol;

  /// For and from a channel on which this version is spoken.
  Bytes encode(std::uint32_t protocol = kNewestProtocol) const;
  static Result<HopOrder> decode(ByteView data, std::uint32_t protocol = kNewestProtocol);
};

inline constexpr std::size_t kMaxAreas = 1 << 20;
inline constexpr std::size_t kMaxContents = 1 << 16;
/// Each costs a millisecond or more of the time for which all stand still.
inline constexpr std::size_t kMaxThreads = 1 << 9;
/// For so many threads more than it has a process that leaves gets room at home.
inline constexpr std::size_t kSpareThreads = 32;
/// The kernel makes a handful of them.
inline constexpr std::size_t kMaxSpecials = 64;
/// How far clocks of two nodes may seem apart, in nanoseconds: a process waits until it has the
/// time that it had where it came from.
inline constexpr std::int64_t kMostClockAhead = std::int64_t{3600} * 1'000'000'000;

}  // namespace drover
