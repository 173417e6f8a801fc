// A process that holds memory, changes some of it steadily, and notes when it did not run: what
// move moves. Every millisecond it asks for its parent (a forwarded call) and looks at the clock;
// each gap is a line on stdout: when it ended (seconds since the epoch), how long it was (ms).
// SIGUSR1 makes it change five per cent of its memory at once, and then say "changed".
//
// Usage: resident_bench MEGABYTES DIRTY_MEGABYTES_PER_SECOND
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace {

constexpr std::size_t kPage = 4096;
constexpr double kTick = 0.001;
constexpr double kGap = 0.004;  // shorter ones are the scheduler's, and would only be many

volatile std::sig_atomic_t change_asked = 0;

double now() {
  timespec t;
  ::clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::uint64_t next_random() {
  static std::uint64_t x = 88172645463325252;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return x;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "resident_bench: usage: resident_bench MEGABYTES DIRTY_MB_PER_S\n");
    return 2;
  }
  const std::size_t pages = (std::strtoull(argv[1], nullptr, 10) << 20) / kPage;
  const double dirty_pages_per_s = std::strtod(argv[2], nullptr) * 1e6 / kPage;
  auto* const memory = static_cast<std::uint64_t*>(
      ::mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (pages == 0 || memory == MAP_FAILED) {
    std::perror("resident_bench: memory");
    return 1;
  }
  constexpr std::size_t kWords = kPage / sizeof *memory;
  for (std::size_t i = 0; i < pages * kWords; ++i) memory[i] = next_random();
  const auto change = [&](std::size_t page) { memory[page % pages * kWords] = next_random(); };

  std::signal(SIGUSR1, [](int) { change_asked = 1; });
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::puts("ready");
  // By the clock that all nodes share: a program that CRIU restored elsewhere sees a jump of
  // others.
  double last = now(), owed = 0;
  while (true) {
    const timespec tick{0, static_cast<long>(kTick * 1e9)};
    ::nanosleep(&tick, nullptr);
    ::getppid();
    const double time = now();
    if (time - last > kGap) std::printf("%.6f %.3f\n", time, (time - last) * 1e3);
    // What a pause left undone is not made up for: it would only lengthen the pause.
    owed += dirty_pages_per_s * (time - last < kGap ? time - last : kTick);
    last = time;
    for (; owed >= 1; --owed) change(next_random());
    if (change_asked) {
      change_asked = 0;
      for (std::size_t i = 0; i < pages; i += 20) change(i);
      std::puts("changed");
    }
  }
}
