#include "remote-syscall/cpu_messages.h"

#include "remote-syscall/cpu_account.h"

namespace drover {
namespace {

bool is_possible(const CpuTime& used) { return drover::is_possible(CpuAccount{used, {}}); }

}  // namespace

Bytes CpuUsedMessage::encode() const {
  WireWriter w;
  w.record(process);
  w.number(user);
  w.number(rang);
  w.number(static_cast<std::uint32_t>(threads.size()));
  for (const ThreadCpu& thread : threads) w.record(thread);
  return w.take();
}

Result<CpuUsedMessage> CpuUsedMessage::decode(ByteView data) {
  WireReader r(data);
  CpuUsedMessage m;
  m.process = r.record<CpuTime>();
  m.user = r.number<std::int32_t>();
  m.rang = r.number<std::uint8_t>();
  for (auto left = r.count(sizeof(ThreadCpu)); left > 0 && !r.failed(); --left) {
    m.threads.push_back(r.record<ThreadCpu>());
    if (!is_possible(m.threads.back().used)) return refusal("CPU used: an impossible time");
  }
  DROVER_CHECK(r.finish("CPU used"));
  if (!is_possible(m.process)) return refusal("CPU used: an impossible time");
  return m;
}

Bytes CpuWatchMessage::encode() const {
  WireWriter w;
  w.record(process);
  w.number(static_cast<std::uint32_t>(threads.size()));
  for (const WatchedThread& thread : threads) {
    w.number(thread.tid);
    w.number(thread.clock);
    w.number(thread.at);
  }
  return w.take();
}

Result<CpuWatchMessage> CpuWatchMessage::decode(ByteView data) {
  WireReader r(data);
  CpuWatchMessage m;
  m.process = r.record<std::array<std::uint64_t, kCpuClocks.size()>>();
  for (auto left = r.count(4 + 1 + 8); left > 0 && !r.failed(); --left) {
    WatchedThread thread;
    thread.tid = r.number<std::int32_t>();
    thread.clock = r.number<CpuClock>();
    thread.at = r.number<std::uint64_t>();
    if (thread.clock > CpuClock::kRuntime) return refusal("CPU watch: no such clock");
    m.threads.push_back(thread);
  }
  DROVER_CHECK(r.finish("CPU watch"));
  return m;
}

}  // namespace drover
