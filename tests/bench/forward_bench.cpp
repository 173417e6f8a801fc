// System calls, timed by the program that makes them. It answers each line on stdin with a JSON
// object on stdout, so that whoever asks can move it in between:
//
//   calls        microseconds a call: medians of single forwarded calls, and the lower quartile of
//                short batches of local ones
//   read PATH    megabytes per second of a sequential read, in pieces of 128 KiB
//   compute      milliseconds of equal pieces of work: registers only, and through a large table
//
// Usage: forward_bench FILE, where FILE has at least 64 KiB.
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/owned_fd.h"

namespace {

using drover::OwnedFd;
using Clock = std::chrono::steady_clock;  // its clock_gettime is local, wherever the program runs

constexpr int kCalls = 500;   // of each forwarded call, timed one by one
constexpr int kBatches = 31;  // of each local call, since one is too short to be timed
constexpr int kCallsABatch = 200;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kPiece = std::size_t{128} << 10;
constexpr std::size_t kTable = std::size_t{64} << 20;  // far more than a TLB reaches with 4 KiB
constexpr int kSlices = 401;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "forward_bench: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}
void check(bool ok, const char* what) {
  if (!ok) die(what);
}
double microseconds(Clock::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}
double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

template <class Call>
double one_by_one(Call call) {
  std::vector<double> times;
  for (int i = 0; i < kCalls; ++i) {
    const auto start = Clock::now();
    call();
    times.push_back(microseconds(Clock::now() - start));
  }
  return quantile(times, 0.5);
}
template <class Call>
double in_batches(Call call) {
  std::vector<double> times;
  for (int batch = 0; batch < kBatches; ++batch) {
    const auto start = Clock::now();
    for (int i = 0; i < kCallsABatch; ++i) call();
    times.push_back(microseconds(Clock::now() - start) / kCallsABatch);
  }
  return quantile(times, 0.25);
}

class Forwarded {
 public:
  explicit Forwarded(const char* path) : path_(path), file_(::open(path, O_RDWR | O_CLOEXEC)) {
    check(static_cast<bool>(file_), path);
    int ends[2];
    check(::pipe2(ends, O_CLOEXEC) == 0, "pipe2");
    pipe_read_ = OwnedFd(ends[0]);
    pipe_write_ = OwnedFd(ends[1]);
  }

  nlohmann::json measure() {
    nlohmann::json out;
    out["getppid"] = one_by_one([] { ::syscall(SYS_getppid); });
    out["pread_4k"] = one_by_one(
        [&] { check(::pread(file_.get(), data_, kPage, next_page()) == kPage, "pread"); });
    out["pwrite_4k"] = one_by_one(
        [&] { check(::pwrite(file_.get(), data_, kPage, next_page()) == kPage, "pwrite"); });
    out["write_1_byte_to_pipe"] =
        one_by_one([&] { check(::write(pipe_write_.get(), data_, 1) == 1, "write"); });
    check(::read(pipe_read_.get(), data_, sizeof data_) == kCalls, "drain the pipe");
    struct stat status;
    out["fstat"] = one_by_one([&] { check(::fstat(file_.get(), &status) == 0, "fstat"); });
    out["stat"] = one_by_one([&] { check(::stat(path_, &status) == 0, "stat"); });
    out["open_close"] = one_by_one([&] {
      const OwnedFd fd(::open(path_, O_RDONLY | O_CLOEXEC));
      check(static_cast<bool>(fd), "open");
    });
    return out;
  }

 private:
  off_t next_page() { return static_cast<off_t>(++page_ % 16 * kPage); }

  const char* path_;
  OwnedFd file_, pipe_read_, pipe_write_;
  std::size_t page_ = 0;
  char data_[kPage] = {};
};

nlohmann::json measure_local() {
  nlohmann::json out;
  std::uint32_t word = 0;
  out["futex_wake"] =
      in_batches([&] { ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0); });
  out["brk_up_and_down"] = in_batches([] {
    check(::sbrk(kPage) != reinterpret_cast<void*>(-1), "sbrk");
    ::sbrk(-static_cast<intptr_t>(kPage));
  });
  const auto map_page = [] {
    void* const page =
        ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(page != MAP_FAILED, "mmap");
    return static_cast<char*>(page);
  };
  out["mmap_munmap"] = in_batches([&] { ::munmap(map_page(), kPage); });
  out["mmap_touch_munmap"] = in_batches([&] {
    char* const page = map_page();
    *static_cast<volatile char*>(page) = 1;
    ::munmap(page, kPage);
  });
  timespec now;
  out["clock_gettime_vdso"] = in_batches([&] { ::clock_gettime(CLOCK_MONOTONIC, &now); });
  out["clock_gettime_call"] =
      in_batches([&] { ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now); });
  return out;
}

nlohmann::json measure_read(const std::string& path) {
  const OwnedFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check(static_cast<bool>(file), path.c_str());
  static std::vector<char> data(kPiece);
  std::uint64_t total = 0;
  const auto start = Clock::now();
  while (true) {
    const ssize_t n = ::read(file.get(), data.data(), data.size());
    check(n >= 0, "read");
    if (n == 0) break;
    total += static_cast<std::uint64_t>(n);
  }
  const double us = microseconds(Clock::now() - start);
  return {{"bytes", total}, {"mb_per_s", static_cast<double>(total) / us}};
}

// Equal slices, short enough that many are not disturbed by whatever else the machine does: the
// lowest tenth is what counts then, the median says how disturbed it was.
template <class Work>
nlohmann::json slices(Work work) {
  std::vector<double> times;
  for (int i = 0; i < kSlices; ++i) {
    const auto start = Clock::now();
    work();
    times.push_back(microseconds(Clock::now() - start) / 1000);
  }
  return {{"median_ms", quantile(times, 0.5)}, {"lowest_tenth_ms", quantile(times, 0.1)}};
}

nlohmann::json measure_compute(std::vector<std::uint64_t>& table) {
  [[maybe_unused]] static volatile std::uint64_t result;  // so that the work is not left out
  std::uint64_t x = 88172645463325252;
  const auto step = [&] {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  };
  const auto registers = [&] {
    for (int i = 0; i < 400'000; ++i) step();
    result = x;
  };
  const auto far_and_wide = [&] {
    for (int i = 0; i < 40'000; ++i) {
      step();
      table[x % table.size()] += x;
    }
    result = x;
  };
  return {{"cpu_bound", slices(registers)}, {"tlb_heavy", slices(far_and_wide)}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "forward_bench: usage: forward_bench FILE\n");
    return 2;
  }
  Forwarded forwarded(argv[1]);
  std::vector<std::uint64_t> table;
  std::string line;
  while (std::getline(std::cin, line)) {
    nlohmann::json out;
    if (line == "calls") {
      out = {{"forwarded", forwarded.measure()}, {"local", measure_local()}};
    } else if (line == "compute") {
      if (table.empty()) table.assign(kTable / sizeof(std::uint64_t), 1);
      out = measure_compute(table);
    } else if (line.rfind("read ", 0) == 0) {
      out = measure_read(line.substr(5));
    } else {
      std::fprintf(stderr, "forward_bench: %s: not known\n", line.c_str());
      return 2;
    }
    std::cout << out.dump() << std::endl;
  }
  return 0;
}
