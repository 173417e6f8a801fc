#include "remote-syscall/returned_signals.h"

#include <sys/syscall.h>

#include <atomic>
#include <optional>
#include <thread>

#include "tests/unit/traced_child.h"

namespace drover {
namespace {

const int kSignal = SIGRTMIN + 2;

/// As sigqueue(3) of this process sends it.
siginfo_t signal_with(int value) {
  siginfo_t info{};
  info.si_signo = kSignal;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_int = value;
  return info;
}

void send_with(pid_t to, int value) {
  siginfo_t info = signal_with(value);
  while (syscall(SYS_rt_sigqueueinfo, to, kSignal, &info) != 0) ASSERT_EQ(errno, EAGAIN);
}

void block(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

/// The leading thread of a child that blocks the signal, stopped for us.
class Receiver {
 public:
  template <class F>
  explicit Receiver(F run) : child_(run) {
    child_.await_sleep();
    child_.seize();
    child_.interrupt();
    const auto registers = child_.thread().registers();
    const auto scratch = child_.make_scratch();
    if (!registers || !scratch) throw std::runtime_error("no scratch in the child");
    thread_.emplace(child_.thread(), child_.memory(), *scratch, *registers);
  }

  pid_t pid() const { return child_.pid(); }

  void give_back(const std::vector<siginfo_t>& to_process, const std::vector<siginfo_t>& to_thread,
                 bool alone) {
    auto injection = Injection::trapping(thread_->thread(), thread_->scratch());
    ASSERT_TRUE(injection) << injection.error().message();
    ReturnedSignals signals(*thread_, child_.memory(), alone);
    const Status sent = signals.send(*injection, to_process, to_thread);
    ASSERT_TRUE(sent) << sent.error().message();
    ASSERT_TRUE(injection->end());
  }
  const TracedThread& thread() const { return thread_->thread(); }
  std::vector<int> own() { return values(thread_->thread().own_pending_signals()); }
  std::vector<int> shared() { return values(thread_->thread().shared_pending_signals()); }

 private:
  static std::vector<int> values(const Result<std::vector<siginfo_t>>& pending) {
    EXPECT_TRUE(pending);
    std::vector<int> found;
    for (const siginfo_t& info : *pending) found.push_back(info.si_value.sival_int);
    return found;
  }

  TracedChild child_;
  std::optional<HollowThread> thread_;
};

int wait_blocking() {
  block(kSignal);
  return pause();
}

}  // namespace

TEST(ReturnedSignals, ComeBeforeThoseThatWait) {
  Receiver receiver(wait_blocking);
  for (const int value : {3, 4, 5}) send_with(receiver.pid(), value);
  receiver.give_back({signal_with(1), signal_with(2)}, {}, true);
  EXPECT_EQ(receiver.shared(), (std::vector{1, 2, 3, 4, 5}));
}

// As those that the threads of one program send each other: nothing tells one from the other.
TEST(ReturnedSignals, MayBeLikeThoseThatWait) {
  Receiver receiver(wait_blocking);
  for (int i = 0; i < 5; ++i) send_with(receiver.pid(), 7);
  receiver.give_back({signal_with(7), signal_with(7), signal_with(7)}, {}, true);
  EXPECT_EQ(receiver.shared(), (std::vector(8, 7)));
}

TEST(ReturnedSignals, StayTheThreadsOrTheProcesss) {
  Receiver receiver(wait_blocking);
  send_with(receiver.pid(), 7);
  receiver.give_back({}, {signal_with(7), signal_with(7)}, false);
  EXPECT_EQ(receiver.shared(), (std::vector{7}));
  EXPECT_EQ(receiver.own(), (std::vector{7, 7}));
  receiver.give_back({signal_with(7)}, {signal_with(7)}, false);
  EXPECT_EQ(receiver.shared(), (std::vector{7, 7}));
  EXPECT_EQ(receiver.own(), (std::vector{7, 7, 7}));
}

// The stop came later than the SIGCONT, and would be ended by it.
TEST(ReturnedSignals, DoNotEndAStopThatHasComeSince) {
  siginfo_t cont = signal_with(1);
  cont.si_signo = SIGCONT;
  for (const int stop : {SIGSTOP, SIGTSTP}) {
    Receiver receiver([] {
      block(SIGCONT);
      block(SIGTSTP);
      return pause();
    });
    kill(receiver.pid(), stop);
    receiver.give_back({cont}, {}, true);
    EXPECT_EQ(*pending_signals(receiver.pid()) & signal_bit(SIGCONT), 0u);
    ASSERT_TRUE(receiver.thread().set_signal_mask(0));
    ASSERT_TRUE(receiver.thread().resume());
    const auto stopped = receiver.thread().wait_for_stop();
    ASSERT_TRUE(stopped);
    const bool begins = stopped->kind == Stop::Kind::kSignal && stopped->signal == stop;
    EXPECT_TRUE(begins || stopped->kind == Stop::Kind::kGroupStop) << stop;
  }
}

TEST(ReturnedSignals, MayBeASigcont) {
  siginfo_t cont = signal_with(1);
  cont.si_signo = SIGCONT;
  Receiver receiver([] {
    block(SIGCONT);
    return pause();
  });
  receiver.give_back({cont}, {}, true);
  EXPECT_EQ(*pending_signals(receiver.pid()), signal_bit(SIGCONT));
}

// Another thread takes what is sent to the process as soon as it is queued, while others come.
TEST(ReturnedSignals, ComeOnceThoughAnotherThreadTakesThem) {
  constexpr int kRounds = 300;
  constexpr int kInARound = 20;
  struct Seen {
    std::atomic<int> times[2 * kRounds * kInARound];
    std::atomic<int> all;
  };
  void* const memory =
      mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto& seen = *new (memory) Seen;
  Receiver receiver([&seen] {
    block(kSignal);
    std::thread([&seen] {
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, kSignal);
      for (siginfo_t info;;) {
        // EINTR: the other thread was faster.
        if (sigwaitinfo(&set, &info) != kSignal) continue;
        ++seen.times[info.si_value.sival_int];
        ++seen.all;
      }
    }).detach();
    return pause();
  });
  int value = 0;
  for (int i = 0; i < kRounds; ++i) {
    std::vector<siginfo_t> returned;
    for (int n = 0; n < kInARound; ++n) returned.push_back(signal_with(value++));
    std::thread sender([&, from = value] {
      for (int n = 0; n < kInARound; ++n) send_with(receiver.pid(), from + n);
    });
    value += kInARound;
    receiver.give_back(returned, {}, false);
    sender.join();
  }
  for (int i = 0; i < 20'000 && (seen.all < value || !receiver.shared().empty()); ++i) usleep(1000);
  for (int i = 0; i < value; ++i) EXPECT_EQ(seen.times[i], 1) << i;
}

}  // namespace drover
