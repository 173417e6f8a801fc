// What home and a guest say of the CPU time of a body, from protocol 2 on: home watches timers and
// limits by it. All of it is nanoseconds.
#pragma once

#include <array>
#include <vector>

#include "common/process/cpu_time.h"
#include "common/wire.h"

namespace drover {

struct ThreadCpu {
  std::int32_t tid = 0;
  std::int32_t zero = 0;
  CpuTime used;
};

/// kCpuUsed: what the body has used by now, in this absence, or since it came to a node that was
/// not told what it had used elsewhere.
struct CpuUsedMessage {
  CpuTime process;
  std::int32_t user = 0;  ///< the thread whose turn it is to be told that the process has used it
  std::uint8_t rang = 0;  ///< what home watches for has come: the watch is over
  std::vector<ThreadCpu> threads;  ///< the caller and those that home watches

  Bytes encode() const;
  static Result<CpuUsedMessage> decode(ByteView data);
};

struct WatchedThread {
  std::int32_t tid = 0;
  CpuClock clock = CpuClock::kRuntime;
  std::uint64_t at = 0;

  bool operator==(const WatchedThread&) const = default;
};

/// kCpuWatch: when one of these clocks shows so much, home wants a word, once.
struct CpuWatchMessage {
  static constexpr std::uint64_t kNever = UINT64_MAX;

  std::array<std::uint64_t, kCpuClocks.size()> process{kNever, kNever, kNever};
  std::vector<WatchedThread> threads;

  bool operator==(const CpuWatchMessage&) const = default;
  Bytes encode() const;
  static Result<CpuWatchMessage> decode(ByteView data);
};

}  // namespace drover
