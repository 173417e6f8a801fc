#include "remote-syscall/cpu_account.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "remote-syscall/body.h"
#include "remote-syscall/cpu_answers.h"
#include "remote-syscall/cpu_clock_id.h"

using namespace drover;

namespace {

constexpr std::int32_t kPid = 4711;
constexpr std::uint64_t kMs = 1'000'000;

/// This process as a body: its own first thread, by another id at home.
Body own_body() {
  Body body;
  body.pid = getpid();
  body.home_pid = kPid;
  body.threads.push_back({getpid(), kPid, {}});
  return body;
}

void burn(std::uint64_t ns) {
  const auto now = [] { return cpu_time_of_process(getpid())->runtime; };
  const std::uint64_t end = now() + ns;
  while (now() < end) {
  }
}

template <class T>
Bytes bytes_of(const T& value) {
  const auto view = std::as_bytes(std::span(&value, 1));
  return {view.begin(), view.end()};
}
template <class T>
T value_of(const Bytes& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

Bytes answered(Body& body, int number, int argument, std::int32_t caller, Bytes data) {
  CallRequest request;
  request.number = number;
  request.arguments[0] = static_cast<std::uint64_t>(argument);
  CallReply reply;
  reply.pieces = {{0, static_cast<std::uint32_t>(data.size())}};
  add_body_cpu(request, reply, body, caller, data);
  return data;
}

}  // namespace

TEST(ShownCpuTime, IsSharedOutAsTheTicksSay) {
  ShownCpuTime shown;
  shown.show({100, 30, 10});
  EXPECT_EQ(shown, (ShownCpuTime{75, 25}));
  shown.show({1'000'000'000'000'000, 3'000'000'000'000, 1'000'000'000'000});
  EXPECT_EQ(shown, (ShownCpuTime{750'000'000'000'000, 250'000'000'000'000})) << "no overflow";
}

TEST(ShownCpuTime, NeverStepsBack) {
  ShownCpuTime shown;
  shown.show({100, 0, 0});
  EXPECT_EQ(shown, (ShownCpuTime{100, 0})) << "user time, as long as no tick says otherwise";
  shown.show({110, 0, 50});
  EXPECT_EQ(shown, (ShownCpuTime{100, 10})) << "all of it system time, says the tick";
  shown.show({120, 500, 50});
  EXPECT_EQ(shown, (ShownCpuTime{110, 10}));
  shown.show({90, 500, 50});
  EXPECT_EQ(shown, (ShownCpuTime{110, 10}));
}

TEST(CpuClockIds, AreThoseOfTheKernel) {
  const auto meaning = [](clockid_t id) { return own_cpu_clock(id, kPid, 4712); };
  const CpuClockId process{CpuClock::kRuntime, 0}, thread{CpuClock::kRuntime, 4712};
  EXPECT_EQ(meaning(CLOCK_PROCESS_CPUTIME_ID), process);
  EXPECT_EQ(meaning(CLOCK_THREAD_CPUTIME_ID), thread);
  EXPECT_EQ(meaning(process_cpu_clock(0, CpuClock::kRuntime)), process);
  EXPECT_EQ(meaning(process_cpu_clock(kPid, CpuClock::kVirtual)),
            (CpuClockId{CpuClock::kVirtual, 0}));
  EXPECT_EQ(meaning(process_cpu_clock(4712, CpuClock::kProf)), (CpuClockId{CpuClock::kProf, 0}))
      << "a thread's id means its process, to that thread";
  EXPECT_EQ(meaning(process_cpu_clock(4713, CpuClock::kRuntime)), std::nullopt)
      << "another process";
  constexpr int kPerThread = 4;
  EXPECT_EQ(meaning(process_cpu_clock(0, CpuClock::kRuntime) | kPerThread), thread);
  EXPECT_EQ(meaning(process_cpu_clock(4715, CpuClock::kRuntime) | kPerThread),
            (CpuClockId{CpuClock::kRuntime, 4715}));
  EXPECT_EQ(meaning(CLOCK_MONOTONIC), std::nullopt);
  EXPECT_EQ(meaning(~5 << 3 | 3), std::nullopt) << "a clock device's descriptor";
  EXPECT_EQ(meaning(~5 << 3 | 7), std::nullopt);
}

TEST(ReportedCpu, IsAddedUpWhereItBeginsAnew) {
  ReportedCpu cpu;
  cpu.report(10);
  cpu.report(30);
  EXPECT_EQ(cpu.total_ns(), 30u);
  cpu.report(35);  // another guest, which has been told
  EXPECT_EQ(cpu.total_ns(), 35u);
  cpu.report(2);  // one that has not
  cpu.report(4);
  EXPECT_EQ(cpu.total_ns(), 39u);
}

TEST(BodyCpu, BeginsWhereTheLastNodeHasEnded) {
  Body body = own_body();
  burn(10 * kMs);
  const CpuAccount process{{5000 * kMs, 4000 * kMs, 1000 * kMs}, {4000 * kMs, 1000 * kMs}};
  const CpuAccount thread{{3000 * kMs, 3000 * kMs, 0}, {3000 * kMs, 0}};
  body.cpu = BodyCpu(body, process, {{kPid, thread}});
  const std::uint64_t at_once = body.cpu.process(body).used.runtime;
  EXPECT_GE(at_once, 5000 * kMs);
  EXPECT_LT(at_once, 5009 * kMs) << "what it used here before it ran does not count";
  burn(10 * kMs);
  EXPECT_GE(body.cpu.process(body).used.runtime, at_once + 10 * kMs);
  EXPECT_GE(body.cpu.thread(body, kPid).used.runtime, 3000 * kMs);
  EXPECT_EQ(body.cpu.threads(body).size(), 1u);
}

TEST(BodyCpu, KnowsItsOwnClock) {
  Body body = own_body();
  burn(5 * kMs);
  const CpuAccount process{{5000 * kMs, 4000 * kMs, 1000 * kMs}, {}};
  const std::uint64_t here = cpu_time_of_process(getpid())->runtime;
  body.cpu = BodyCpu(body, process, {});
  const std::uint64_t at = body.cpu.on_own_clock(CpuClock::kRuntime, 5100 * kMs);
  EXPECT_GE(at, here + 100 * kMs);
  EXPECT_LT(at, cpu_time_of_process(getpid())->runtime + 100 * kMs);
  EXPECT_LE(body.cpu.on_own_clock(CpuClock::kRuntime, 4 * kMs), at - 100 * kMs)
      << "reached before it came here";
}

TEST(BodyCpu, OfAThreadThatHasEndedStays) {
  Body body = own_body();
  body.cpu = BodyCpu(body, {}, {});
  const CpuAccount had = body.cpu.thread(body, kPid);
  body.threads.clear();
  EXPECT_EQ(body.cpu.thread(body, kPid), had);
  EXPECT_EQ(body.cpu.thread(body, 4799), CpuAccount{});
}

TEST(CpuAnswers, HaveBothSides) {
  Body body = own_body();
  const CpuAccount process{{2'600 * kMs, 2'000 * kMs, 600 * kMs}, {2'000 * kMs, 600 * kMs}};
  const CpuAccount thread{{1'500 * kMs, 0, 0}, {1'500 * kMs, 0}};
  body.cpu = BodyCpu(body, process, {{kPid, thread}});

  const timespec at_home{7, 600'000'000};
  const auto read = [&](clockid_t id) {
    const auto t =
        value_of<timespec>(answered(body, SYS_clock_gettime, id, kPid, bytes_of(at_home)));
    EXPECT_LT(t.tv_nsec, 1'000'000'000);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
  };
  EXPECT_NEAR(read(CLOCK_PROCESS_CPUTIME_ID), 10.2, 0.15);
  EXPECT_NEAR(read(CLOCK_THREAD_CPUTIME_ID), 9.1, 0.15);
  EXPECT_EQ(read(process_cpu_clock(4799, CpuClock::kRuntime)), 7.6) << "another process's";

  rusage usage{};
  usage.ru_utime = {1, 999'999};
  usage.ru_minflt = 17;
  const auto get = [&](int who) {
    return value_of<rusage>(answered(body, SYS_getrusage, who, kPid, bytes_of(usage)));
  };
  EXPECT_GE(get(RUSAGE_SELF).ru_utime.tv_sec, 3);
  EXPECT_LT(get(RUSAGE_SELF).ru_utime.tv_usec, 1'000'000);
  EXPECT_GE(get(RUSAGE_SELF).ru_stime.tv_usec, 600'000);
  EXPECT_EQ(get(RUSAGE_SELF).ru_minflt, 17);
  EXPECT_EQ(get(RUSAGE_THREAD).ru_utime.tv_sec, 3);
  EXPECT_EQ(get(RUSAGE_CHILDREN).ru_utime.tv_sec, 1);

  const tms ticks{100, 10, 5, 6};
  const auto t = value_of<tms>(answered(body, SYS_times, 0, kPid, bytes_of(ticks)));
  EXPECT_GE(t.tms_utime, 100 + 2 * sysconf(_SC_CLK_TCK));
  EXPECT_GE(t.tms_stime, 10 + 6 * sysconf(_SC_CLK_TCK) / 10);
  EXPECT_EQ(t.tms_cutime, 5);
}

TEST(CpuAnswers, ThatCarryNothingStayEmpty) {
  Body body = own_body();
  CallRequest request;
  request.number = SYS_clock_gettime;
  Bytes data;
  add_body_cpu(request, {}, body, kPid, data);
  EXPECT_TRUE(data.empty());
}
