// Timers by CPU time of a process that is away, with a real process, and its body played by the
// test: what that has used is whatever the test says.
#include "remote-syscall/home_cpu_timers.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cstring>
#include <future>

#include "remote-syscall/home_server.h"
#include "tests/unit/traced_child.h"

namespace drover {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kSecond = 1000 * kMs;
constexpr int kTimerSignal = 40;

/// The body's memory is ours.
class OwnMemory final : public MemoryReader, public MemoryWriter {
 public:
  Result<std::size_t> read(ForeignAddress from, std::span<std::byte> into) override {
    std::memcpy(into.data(), reinterpret_cast<const void*>(from.value()), into.size());
    return into.size();
  }
  Status write(ForeignAddress to, ByteView data) override {
    std::memcpy(reinterpret_cast<void*>(to.value()), data.data(), data.size());
    return {};
  }
};

std::uint64_t in_ns(const timespec& t) {
  return static_cast<std::uint64_t>(t.tv_sec) * kSecond + static_cast<std::uint64_t>(t.tv_nsec);
}
timespec spec(std::uint64_t ns) {
  return {static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)};
}

/// What the child has made before it is held.
struct Made {
  timer_t timer;
};
Made* made = nullptr;

/// A child that is away, and its home.
class Away {
 public:
  /// `begin` is what the child does at home.
  explicit Away(int (*begin)()) {
    made = static_cast<Made*>(
        mmap(nullptr, sizeof(Made), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    child_ = std::make_unique<TracedChild>([begin] {
      if (const int failed = begin(); failed != 0) return failed;
      for (;;) pause();
    });
    child_->await_sleep();
    child_->seize();
    child_->interrupt();
    open_channel();
    const auto registers = child_->thread().registers();
    const auto scratch = child_->make_scratch();
    if (!registers || !scratch) throw std::runtime_error("no scratch in the child");
    threads_.emplace_back(child_->thread(), child_->memory(), *scratch, *registers);
    std::array<KernelSigaction, kSignalCount> actions{};
    for (const int signal : {SIGPROF, SIGVTALRM, SIGXCPU, kTimerSignal}) {
      actions.at(static_cast<std::size_t>(signal - 1)).handler = 0x1000;
    }
    server_.emplace(threads_, child_->memory(), *home_, actions, counters_);
    EXPECT_TRUE(server_->adopt_timers());
  }
  ~Away() { munmap(made, sizeof(Made)); }

  pid_t pid() const { return child_->pid(); }
  TracedChild& child() { return *child_; }
  HomeServer& server() { return *server_; }
  HollowThread& thread() { return threads_.front(); }
  ForeignMemory& memory() { return child_->memory(); }
  int timer() const { return static_cast<int>(reinterpret_cast<std::intptr_t>(made->timer)); }

  /// The body has used so much, all of it user time.
  void use(std::uint64_t ns, bool rang = true) {
    CpuUsedMessage used;
    used.process = {ns, ns, 0};
    used.user = child_->pid();
    used.rang = rang ? 1 : 0;
    used.threads = {{child_->pid(), 0, {ns, ns, 0}}};
    tell(FrameType::kCpuUsed, used.encode());
  }
  void block(SignalMask mask, bool wants_answer) {
    tell(FrameType::kMask, encode_record(MaskMessage{child_->pid(), wants_answer ? 1U : 0U, mask}));
  }

  /// A call of the body's, whose pointers are ours.
  std::int64_t call(int number, CallArguments arguments) {
    begin_call(number, arguments);
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (!result_ && std::chrono::steady_clock::now() < deadline) {
      EXPECT_TRUE(server_->look());
      hear();
    }
    EXPECT_TRUE(result_) << syscall_name(number) << " does not come to an end";
    return result_.value_or(-EPROTO);
  }
  void begin_call(int number, CallArguments arguments) {
    OwnMemory memory;
    EXPECT_TRUE(marshal_call(number, arguments, memory, request_));
    WireWriter w;
    w.number(static_cast<std::int32_t>(child_->pid()));
    w.number(++sequence_);
    w.number(signals_told_);
    w.number<std::uint8_t>(0);
    request_.encode(w);
    result_.reset();
    end_.reset();
    tell(FrameType::kCall, w.data());
  }

  /// Takes what home has said.
  void hear() {
    for (;;) {
      const auto frame = guest_->receive();
      ASSERT_TRUE(frame) << frame.error().message();
      if (!*frame) return;
      take(**frame);
    }
  }
  /// What came of a signal, once it has come.
  std::optional<siginfo_t> signal() {
    for (int i = 0; i < 2000 && signals_.empty(); ++i) {
      EXPECT_TRUE(server_->look());
      EXPECT_TRUE(server_->rest());
      hear();
      if (signals_.empty()) usleep(1000);
    }
    if (signals_.empty()) return std::nullopt;
    const siginfo_t info = signals_.front();
    signals_.pop_front();
    return info;
  }
  void send(int signal) const { EXPECT_EQ(kill(child_->pid(), signal), 0); }
  /// Serves until that is so; false if it does not become so.
  template <class Condition>
  bool await(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (!condition() && std::chrono::steady_clock::now() < deadline) {
      EXPECT_TRUE(server_->look());
      EXPECT_TRUE(server_->rest());
      hear();
    }
    return condition();
  }
  bool has_signal() const { return !signals_.empty(); }
  bool no_signal() {
    EXPECT_TRUE(server_->look());
    hear();
    return signals_.empty();
  }
  const CpuWatchMessage& watch() {
    hear();
    return watch_;
  }
  std::optional<CallEnd> end_of_call() {
    hear();
    return end_;
  }

  /// As the child itself would be told, by a call that nobody changes.
  itimerspec timer_in_p() {
    itimerspec left{};
    in_p(SYS_timer_gettime, {static_cast<std::uint64_t>(timer()), 0}, 1, left);
    return left;
  }
  itimerval itimer_in_p(int which) {
    itimerval left{};
    in_p(SYS_getitimer, {static_cast<std::uint64_t>(which), 0}, 1, left);
    return left;
  }
  template <class T>
  void in_p(long number, std::array<std::uint64_t, 6> arguments, std::size_t pointer, T& record) {
    ASSERT_TRUE(thread().stop());
    auto injection = Injection::trapping(thread().thread(), thread().scratch());
    ASSERT_TRUE(injection);
    const ForeignAddress at = thread().scratch().data();
    arguments.at(pointer) = at.value();
    ASSERT_TRUE(memory().write_record(at, record));
    const auto called = injection->call("call", number, arguments);
    ASSERT_TRUE(called) << called.error().message();
    const auto read = memory().template read_record<T>(at);
    ASSERT_TRUE(read);
    record = *read;
    ASSERT_TRUE(injection->end());
  }

 private:
  void open_channel() {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    auto accepted = std::async(std::launch::async, [fd = fds[1]] {
      return SecureChannel::open(OwnedFd(fd), ChannelRole::kAcceptor, ChannelKey{}, 5s);
    });
    auto dialled = SecureChannel::open(OwnedFd(fds[0]), ChannelRole::kDialler, ChannelKey{}, 5s);
    auto other = accepted.get();
    ASSERT_TRUE(dialled && other);
    home_.emplace(*std::move(dialled));
    guest_.emplace(*std::move(other));
  }
  void tell(FrameType kind, ByteView payload) {
    Frame frame;
    frame.type = type(kind);
    frame.payload.assign(payload.begin(), payload.end());
    const Status taken = server_->on_frame(frame);
    ASSERT_TRUE(taken) << taken.error().message();
  }
  void take(const Frame& frame) {
    switch (static_cast<FrameType>(frame.type)) {
      case FrameType::kSignal: {
        const auto message = SignalMessage::decode(frame.payload);
        ASSERT_TRUE(message);
        signals_.push_back(message->info);
        ++signals_told_;
        return;
      }
      case FrameType::kCpuWatch: {
        const auto message = CpuWatchMessage::decode(frame.payload);
        ASSERT_TRUE(message);
        watch_ = *message;
        return;
      }
      case FrameType::kReply: {
        WireReader r(frame.payload);
        const auto head = OutcomeHead::decode(r);
        CallReply reply;
        ASSERT_TRUE(head && reply.decode(r));
        end_ = head->end;
        OwnMemory memory;
        ASSERT_TRUE(apply_reply(request_, reply, memory));
        result_ = reply.result;
        return;
      }
      default:
        return;
    }
  }

  std::unique_ptr<TracedChild> child_;
  std::list<HollowThread> threads_;
  std::optional<SecureChannel> home_;
  std::optional<SecureChannel> guest_;
  CallCounters counters_;
  std::optional<HomeServer> server_;
  CallRequest request_;
  std::uint64_t sequence_ = 0;
  std::uint32_t signals_told_ = 0;
  std::optional<std::int64_t> result_;
  std::optional<CallEnd> end_;
  std::deque<siginfo_t> signals_;
  CpuWatchMessage watch_;
};

/// A timer by the process's CPU time, of the child's own.
int make_timer() {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = kTimerSignal;
  event.sigev_value.sival_int = 77;
  return timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &made->timer) == 0 ? 0 : 1;
}
int set_timer(std::uint64_t value, std::uint64_t interval) {
  const itimerspec setting{spec(interval), spec(value)};
  return timer_settime(made->timer, 0, &setting, nullptr) == 0 ? 0 : 2;
}
int nothing() { return 0; }

SignalMask timer_signal() { return signal_bit(kTimerSignal); }

std::uint64_t address(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }

}  // namespace

TEST(HomeCpuTimers, RestInPAndGoOnHere) {
  Away away([] { return make_timer() + set_timer(50 * kMs, 20 * kMs); });
  const itimerspec in_p = away.timer_in_p();
  EXPECT_EQ(in_ns(in_p.it_value), 0u);
  away.use(0, false);
  const std::uint64_t waits_for =
      away.watch().process.at(static_cast<std::size_t>(CpuClock::kRuntime));
  EXPECT_LE(waits_for, 50 * kMs);
  EXPECT_GT(waits_for, 20 * kMs);
  away.use(30 * kMs, false);
  itimerspec left{};
  EXPECT_EQ(
      away.call(SYS_timer_gettime, {static_cast<std::uint64_t>(away.timer()), address(&left)}), 0);
  EXPECT_LE(in_ns(left.it_value), 20 * kMs);
  EXPECT_GT(in_ns(left.it_value), 0u);
  EXPECT_EQ(in_ns(left.it_interval), 20 * kMs);
  EXPECT_TRUE(away.no_signal());
}

TEST(HomeCpuTimers, ExpireByWhatTheBodyHasUsed) {
  Away away([] { return make_timer() + set_timer(50 * kMs, 0); });
  away.use(49 * kMs - 20 * kMs);
  EXPECT_TRUE(away.no_signal());
  away.use(50 * kMs);
  const auto info = away.signal();
  ASSERT_TRUE(info);
  EXPECT_EQ(info->si_signo, kTimerSignal);
  EXPECT_EQ(info->si_code, SI_TIMER);
  EXPECT_EQ(info->si_timerid, away.timer());
  EXPECT_EQ(info->si_value.sival_int, 77);
  EXPECT_EQ(info->si_overrun, 0);
  away.use(500 * kMs);
  EXPECT_TRUE(away.no_signal()) << "it was to expire once";
  EXPECT_EQ(away.watch(), CpuWatchMessage{}) << "nothing is waited for any more";
}

TEST(HomeCpuTimers, CountOverrunsUntilTheSignalIsTaken) {
  Away away([] { return make_timer() + set_timer(50 * kMs, 10 * kMs); });
  away.block(timer_signal(), false);
  away.use(55 * kMs);
  EXPECT_TRUE(away.no_signal());
  EXPECT_EQ(*pending_signals(away.pid()) & timer_signal(), timer_signal()) << "pending in P";
  away.use(63 * kMs);
  away.use(88 * kMs);
  EXPECT_EQ(*pending_signals(away.pid()) & timer_signal(), timer_signal());
  away.block(0, true);
  const auto info = away.signal();
  ASSERT_TRUE(info);
  EXPECT_GE(info->si_overrun, 3);
  EXPECT_LE(info->si_overrun, 4) << "P has used something itself";
  EXPECT_EQ(away.call(SYS_timer_getoverrun, {static_cast<std::uint64_t>(away.timer())}),
            info->si_overrun);
  away.use(110 * kMs);
  const auto next = away.signal();
  ASSERT_TRUE(next);
  EXPECT_LE(next->si_overrun, 2);
}

TEST(HomeCpuTimers, TellOverrunsToWhoWaitsForTheSignal) {
  Away away([] { return make_timer() + set_timer(50 * kMs, 10 * kMs); });
  away.block(timer_signal(), false);
  const SignalMask set = timer_signal();
  const auto fd = away.call(
      SYS_signalfd4, {static_cast<std::uint64_t>(-1), address(&set), sizeof set, SFD_NONBLOCK});
  ASSERT_GE(fd, 0);
  away.use(75 * kMs);
  siginfo_t info{};
  EXPECT_EQ(away.call(SYS_rt_sigtimedwait, {address(&set), address(&info), 0, sizeof set}),
            kTimerSignal);
  EXPECT_GE(info.si_overrun, 2);
  EXPECT_LE(info.si_overrun, 3);
  away.use(115 * kMs);
  signalfd_siginfo read{};
  EXPECT_EQ(away.call(SYS_read, {static_cast<std::uint64_t>(fd), address(&read), sizeof read}),
            static_cast<std::int64_t>(sizeof read));
  EXPECT_GE(read.ssi_overrun, 2u);
  EXPECT_LE(read.ssi_overrun, 4u);
  EXPECT_EQ(away.call(SYS_read, {static_cast<std::uint64_t>(fd), address(&read), sizeof read}),
            -EAGAIN);
}

// Somebody has taken it, of whom we do not know: it shows when the next one is due.
TEST(HomeCpuTimers, NoticeThatASignalHasBeenTaken) {
  Away away([] { return make_timer() + set_timer(50 * kMs, 10 * kMs); });
  away.block(timer_signal(), false);
  away.use(50 * kMs);
  siginfo_t info{};
  struct {
    SignalMask set;
    timespec at_once;
  } wait{timer_signal(), {0, 0}};
  ASSERT_TRUE(away.thread().stop());
  {
    auto injection = Injection::trapping(away.thread().thread(), away.thread().scratch());
    ASSERT_TRUE(injection);
    const ForeignAddress at = away.thread().scratch().data();
    ASSERT_TRUE(away.memory().write_record(at, wait));
    const auto taken =
        injection->raw(SYS_rt_sigtimedwait, {at.value(), 0, (at + 8).value(), sizeof(SignalMask)});
    ASSERT_TRUE(taken);
    EXPECT_EQ(*taken, kTimerSignal);
    ASSERT_TRUE(injection->end());
  }
  EXPECT_EQ(*pending_signals(away.pid()) & timer_signal(), 0u);
  away.use(62 * kMs);
  away.use(75 * kMs);
  EXPECT_EQ(away.call(SYS_rt_sigtimedwait,
                      {address(&wait.set), address(&info), address(&wait.at_once), 8}),
            kTimerSignal);
}

TEST(HomeCpuTimers, WhoseSignalWasPendingWhenTheProcessLeftKeepIt) {
  Away away([] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, kTimerSignal);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    if (make_timer() != 0 || set_timer(1, 10 * kMs) != 0) return 1;
    const itimerspec past{spec(10 * kMs), spec(1)};
    return timer_settime(made->timer, TIMER_ABSTIME, &past, nullptr);
  });
  EXPECT_EQ(*pending_signals(away.pid()) & timer_signal(), timer_signal());
  away.use(45 * kMs);
  EXPECT_EQ(*pending_signals(away.pid()) & timer_signal(), timer_signal());
  itimerspec left{};
  EXPECT_EQ(
      away.call(SYS_timer_gettime, {static_cast<std::uint64_t>(away.timer()), address(&left)}), 0);
  EXPECT_LE(in_ns(left.it_value), 10 * kMs);
  EXPECT_GT(in_ns(left.it_value), 0u);
  away.block(0, true);
  const auto info = away.signal();
  ASSERT_TRUE(info);
  EXPECT_GE(info->si_overrun, 4) << "of P's kernel, and of here";
  EXPECT_LE(info->si_overrun, 5);
  away.use(60 * kMs);
  const auto next = away.signal();
  ASSERT_TRUE(next) << "P's kernel has let go of it";
  EXPECT_EQ(in_ns(away.timer_in_p().it_value), 0u);
}

TEST(HomeCpuTimers, AreSetAndAskedAway) {
  Away away(make_timer);
  away.use(100 * kMs);
  const auto id = static_cast<std::uint64_t>(away.timer());
  itimerspec setting{spec(7 * kMs), spec(40 * kMs)}, left{};
  EXPECT_EQ(away.call(SYS_timer_settime, {id, 0, address(&setting), address(&left)}), 0);
  EXPECT_EQ(in_ns(left.it_value), 0u);
  EXPECT_EQ(in_ns(away.timer_in_p().it_value), 0u) << "not in P";
  EXPECT_EQ(in_ns(setting.it_value), 40 * kMs) << "the program's own is not changed";
  away.use(120 * kMs);
  EXPECT_EQ(away.call(SYS_timer_gettime, {id, address(&left)}), 0);
  EXPECT_LE(in_ns(left.it_value), 20 * kMs);
  EXPECT_GT(in_ns(left.it_value), 0u);
  // By the clock, of which P knows only a part.
  timespec home{};
  clock_gettime(process_cpu_clock(away.pid(), CpuClock::kRuntime), &home);
  setting = {spec(0), spec(in_ns(home) + 150 * kMs)};
  EXPECT_EQ(away.call(SYS_timer_settime, {id, TIMER_ABSTIME, address(&setting), address(&left)}),
            0);
  EXPECT_EQ(in_ns(left.it_interval), 7 * kMs);
  away.use(140 * kMs);
  EXPECT_TRUE(away.no_signal());
  away.use(150 * kMs);
  EXPECT_TRUE(away.signal());
  // What is wrong with it P's kernel says.
  setting.it_value.tv_nsec = 1'000'000'000;
  EXPECT_EQ(away.call(SYS_timer_settime, {id, 0, address(&setting), 0}), -EINVAL);
  EXPECT_EQ(away.call(SYS_timer_settime, {id + 5, 0, address(&setting), 0}), -EINVAL);
  EXPECT_EQ(away.call(SYS_timer_delete, {id}), 0);
  EXPECT_EQ(away.call(SYS_timer_gettime, {id, address(&left)}), -EINVAL);
}

TEST(HomeCpuTimers, OfSetitimerAreP) {
  Away away([] {
    const itimerval setting{{0, 20'000}, {0, 50'000}};
    return setitimer(ITIMER_PROF, &setting, nullptr);
  });
  EXPECT_EQ(away.itimer_in_p(ITIMER_PROF).it_value.tv_usec, 0);
  away.use(30 * kMs);
  EXPECT_TRUE(away.no_signal());
  itimerval left{};
  EXPECT_EQ(away.call(SYS_getitimer, {ITIMER_PROF, address(&left)}), 0);
  EXPECT_LE(left.it_value.tv_usec, 34'000);
  EXPECT_GT(left.it_value.tv_usec, 5'000);
  EXPECT_EQ(left.it_interval.tv_usec, 20'000);
  away.use(60 * kMs);
  const auto info = away.signal();
  ASSERT_TRUE(info);
  EXPECT_EQ(info->si_signo, SIGPROF);
  EXPECT_EQ(info->si_code, SI_KERNEL);
  EXPECT_EQ(info->si_pid, 0);
  away.use(80 * kMs);
  EXPECT_TRUE(away.signal());
  // The other one, by user time.
  const itimerval other{{0, 0}, {0, 10'000}};
  EXPECT_EQ(away.call(SYS_setitimer, {ITIMER_VIRTUAL, address(&other), 0}), 0);
  EXPECT_EQ(away.call(SYS_setitimer, {ITIMER_PROF, 0, address(&left)}), 0) << "disarms";
  EXPECT_EQ(left.it_interval.tv_usec, 20'000);
  away.use(100 * kMs);
  const auto virtual_one = away.signal();
  ASSERT_TRUE(virtual_one);
  EXPECT_EQ(virtual_one->si_signo, SIGVTALRM);
  away.use(200 * kMs);
  EXPECT_TRUE(away.no_signal());
}

// An interval below a tick: no more than one signal in a tick, whatever is used.
TEST(HomeCpuTimers, DoNotComeFasterThanTheKernelLooks) {
  Away away(nothing);
  const itimerval fast{{0, 100}, {0, 100}};
  EXPECT_EQ(away.call(SYS_setitimer, {ITIMER_PROF, address(&fast), 0}), 0);
  int signals = 0;
  for (std::uint64_t used = 0; used < 20 * cpu_tick(); used += cpu_tick() / 8) {
    away.use(used);
    while (!away.no_signal()) {
      ASSERT_TRUE(away.signal());
      ++signals;
    }
  }
  EXPECT_GE(signals, 15);
  EXPECT_LE(signals, 22);
}

// It is in a call: at home the signal would come upon that.
TEST(HomeCpuTimers, EndTheCallOfTheThreadWhoseTimeItWas) {
  Away away(nothing);
  const itimerval once{{0, 0}, {0, 10'000}};
  EXPECT_EQ(away.call(SYS_setitimer, {ITIMER_PROF, address(&once), 0}), 0);
  away.begin_call(SYS_pause, {});
  away.use(20 * kMs);
  const auto info = away.signal();
  ASSERT_TRUE(info);
  EXPECT_EQ(info->si_signo, SIGPROF);
  EXPECT_EQ(away.end_of_call(), CallEnd::kDisturbed) << "it goes on with it, and meets the signal";
}

TEST(HomeCpuTimers, ComeHomeWithWhatIsLeft) {
  Away away([] { return make_timer() + set_timer(90 * kMs, 30 * kMs); });
  const itimerval setting{{0, 40'000}, {0, 80'000}};
  EXPECT_EQ(away.call(SYS_setitimer, {ITIMER_PROF, address(&setting), 0}), 0);
  away.use(20 * kMs);
  ASSERT_TRUE(away.server().begin_recall());
  CpuUsedMessage last;
  last.process = {50 * kMs, 50 * kMs, 0};
  ASSERT_TRUE(away.server().give_back_timers(last));
  const itimerspec posix = away.timer_in_p();
  EXPECT_LE(in_ns(posix.it_value), 40 * kMs);
  EXPECT_GT(in_ns(posix.it_value), 20 * kMs);
  EXPECT_EQ(in_ns(posix.it_interval), 30 * kMs);
  const itimerval prof = away.itimer_in_p(ITIMER_PROF);
  EXPECT_LE(prof.it_value.tv_usec, 34'000 + 1);
  EXPECT_GT(prof.it_value.tv_usec, 10'000);
  EXPECT_EQ(prof.it_interval.tv_usec, 40'000);
  // It did not come home after all.
  ASSERT_TRUE(away.server().end_recall());
  EXPECT_EQ(in_ns(away.timer_in_p().it_value), 0u);
  away.use(95 * kMs);
  const auto info = away.signal();
  ASSERT_TRUE(info);
  EXPECT_TRUE(info->si_signo == kTimerSignal || info->si_signo == SIGPROF);
}

TEST(HomeCpuTimers, WhoseSignalIsPendingComeHomeWithIt) {
  Away away([] { return make_timer() + set_timer(20 * kMs, 10 * kMs); });
  away.block(timer_signal(), false);
  away.use(25 * kMs);
  ASSERT_TRUE(away.server().begin_recall());
  ASSERT_TRUE(away.server().give_back_timers({}));
  EXPECT_EQ(*pending_signals(away.pid()) & timer_signal(), timer_signal());
  const itimerspec left = away.timer_in_p();
  EXPECT_EQ(in_ns(left.it_interval), 10 * kMs);
  EXPECT_GT(in_ns(left.it_value), 0u) << "it goes on when the signal is taken";
  const auto queued = away.thread().thread().shared_pending_signals();
  ASSERT_TRUE(queued);
  ASSERT_EQ(queued->size(), 1u);
  EXPECT_EQ(queued->front().si_timerid, away.timer());
}

// The body is lost, and P goes on from where it left, if nothing has had an effect.
TEST(HomeCpuTimers, GoBackAsTheyWereIfNothingOfTheBodyCounts) {
  Away away([] { return make_timer() + set_timer(90 * kMs, 30 * kMs); });
  away.server().effects().watch({}, 0);
  away.use(70 * kMs);
  EXPECT_FALSE(away.server().effects().first());
  ASSERT_TRUE(away.server().break_off());
  ASSERT_TRUE(away.server().give_back_timers_as_they_were());
  const itimerspec left = away.timer_in_p();
  EXPECT_GT(in_ns(left.it_value), 60 * kMs);
  EXPECT_LE(in_ns(left.it_value), 90 * kMs);
  EXPECT_EQ(in_ns(left.it_interval), 30 * kMs);
}

TEST(HomeCpuTimers, HaveAnEffectWhenTheyExpireThoughTheSignalWaits) {
  Away away([] { return make_timer() + set_timer(50 * kMs, 0); });
  away.server().effects().watch({}, timer_signal());
  away.block(timer_signal(), false);
  EXPECT_FALSE(away.server().effects().first());
  away.use(60 * kMs);
  EXPECT_EQ(*pending_signals(away.pid()) & timer_signal(), timer_signal());
  EXPECT_EQ(away.server().effects().first(), "a timer by CPU time that expired");
}

TEST(HomeCpuTimers, WaitForTheEndOfAStop) {
  Away away([] { return make_timer() + set_timer(50 * kMs, 0); });
  away.send(SIGSTOP);
  EXPECT_TRUE(away.await([&] { return away.server().stopped(); }));
  away.use(60 * kMs);
  EXPECT_TRUE(away.no_signal());
  EXPECT_EQ(*pending_signals(away.pid()) & timer_signal(), 0u);
  away.send(SIGCONT);
  const auto info = away.signal();
  ASSERT_TRUE(info);
  EXPECT_EQ(info->si_signo, kTimerSignal);
}

// The stop comes at any moment of the timer's expiring, whatever the thread is in.
TEST(HomeCpuTimers, ExpireOnceHoweverAStopCrosses) {
  constexpr int kTimes = 150;
  Away away([] { return make_timer() + set_timer(100 * kMs, 100 * kMs); });
  for (int i = 1; i <= kTimes; ++i) {
    const bool in_call = i % 3 == 0;
    if (in_call) away.begin_call(SYS_pause, {});
    auto stop = std::async(std::launch::async, [&, i] {
      for (volatile int spin = 0; spin < i * 997 % 40'000;) spin = spin + 1;
      away.send(SIGSTOP);
    });
    away.use(static_cast<std::uint64_t>(i) * 100 * kMs + 10 * kMs);
    stop.wait();
    ASSERT_TRUE(away.await([&] { return away.server().stopped() || away.has_signal(); })) << i;
    away.send(SIGCONT);
    const auto info = away.signal();
    ASSERT_TRUE(info) << i;
    ASSERT_EQ(info->si_signo, kTimerSignal);
    ASSERT_LE(info->si_overrun, 1) << i;
    ASSERT_TRUE(away.await([&] { return !away.server().stop_begun(); })) << i;
    ASSERT_TRUE(away.no_signal()) << i;
    const bool ends = !in_call || away.await([&] { return away.end_of_call().has_value(); });
    ASSERT_TRUE(ends) << i;
  }
}

// A hop: the new guest goes on where the old one has ended, and hears what to wait for.
TEST(HomeCpuTimers, GoOnWithAnotherGuest) {
  ReportedCpuTime used;
  used.report({100, 70, 30});
  used.report({150, 100, 50});
  EXPECT_EQ(used.total(), (CpuTime{150, 100, 50}));
  used.report({10, 5, 5});  // one that has not been told
  used.report({20, 10, 10});
  EXPECT_EQ(used.total(), (CpuTime{170, 110, 60}));
}

TEST(HomeCpuTimers, TheLimitIsToldOfEverySecond) {
  Away away([] {
    const rlimit limit{2, 600};
    return setrlimit(RLIMIT_CPU, &limit);
  });
  away.use(1900 * kMs);
  EXPECT_TRUE(away.no_signal());
  away.use(2100 * kMs);
  const auto info = away.signal();
  ASSERT_TRUE(info);
  EXPECT_EQ(info->si_signo, SIGXCPU);
  EXPECT_EQ(info->si_code, SI_KERNEL);
  EXPECT_EQ(*cpu_limit_of(away.pid()), (Limit{3, 600})) << "put up, as the kernel does";
  away.use(2900 * kMs);
  EXPECT_TRUE(away.no_signal());
  away.use(3100 * kMs);
  EXPECT_TRUE(away.signal());
}

// Who has put it up in the meantime, as prlimit(1) does, has put it up.
TEST(HomeCpuTimers, TheLimitIsTheOneThatIsInForce) {
  Away away([] {
    const rlimit limit{1, 2};
    return setrlimit(RLIMIT_CPU, &limit);
  });
  const rlimit higher{100, 200};
  if (prlimit(away.pid(), RLIMIT_CPU, &higher, nullptr) != 0) {
    // Not without privileges: then it can only be put down.
    const rlimit lower{1, 1};
    ASSERT_EQ(prlimit(away.pid(), RLIMIT_CPU, &lower, nullptr), 0);
    return;
  }
  away.use(5 * kSecond);
  EXPECT_TRUE(away.no_signal());
  EXPECT_FALSE(has_ended(away.pid()));
}

TEST(HomeCpuTimers, AtTheHardLimitItEnds) {
  Away away([] {
    const rlimit limit{1, 2};
    return setrlimit(RLIMIT_CPU, &limit);
  });
  away.use(2100 * kMs);
  std::optional<HomeEvent> event;
  for (int i = 0; i < 2000 && !event; ++i) {
    ASSERT_TRUE(away.server().look());
    event = away.server().take_event();
    usleep(1000);
  }
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, HomeEvent::Kind::kEnded);
  EXPECT_TRUE(WIFSIGNALED(event->wait_status));
  EXPECT_EQ(WTERMSIG(event->wait_status), SIGKILL);
  away.child().ended();
}

}  // namespace drover
