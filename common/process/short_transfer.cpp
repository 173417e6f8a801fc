#include "common/process/short_transfer.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

#include "common/owned_fd.h"
#include "common/process/continued_call.h"

namespace drover {
namespace {

constexpr std::size_t kMostVectors = ContinuationPage::kExtraSize / sizeof(iovec);
constexpr std::size_t kMostVectorsOfACall = 1024;  // UIO_MAXIOV

/// What the code finds behind itself.
struct Record {
  std::uint64_t done, second_argument, third_argument, back_to;
};

// At the start of a page; the displacements are those of Record's fields.
constexpr std::array<unsigned char, 46> kCode = {
    0x0f, 0x05,                                // syscall
    0x48, 0x85, 0xc0,                          // test rax, rax
    0x79, 0x09,                                // jns +9
    0x48, 0x8b, 0x05, 0x72, 0x00, 0x00, 0x00,  // mov rax, [done]
    0xeb, 0x07,                                // jmp +7
    0x48, 0x03, 0x05, 0x69, 0x00, 0x00, 0x00,  // add rax, [done]
    0x48, 0x8b, 0x35, 0x6a, 0x00, 0x00, 0x00,  // mov rsi, [second_argument]
    0x48, 0x8b, 0x15, 0x6b, 0x00, 0x00, 0x00,  // mov rdx, [third_argument]
    0x48, 0x8b, 0x0d, 0x6c, 0x00, 0x00, 0x00,  // mov rcx, [back_to], as a call leaves it
    0xff, 0xe1,                                // jmp rcx
};
static_assert(ContinuationPage::kRecordOffset == 128 && sizeof(kCode) <= 128);
static_assert(offsetof(Record, done) == 0 && offsetof(Record, second_argument) == 8 &&
              offsetof(Record, third_argument) == 16 && offsetof(Record, back_to) == 24);

Result<std::vector<iovec>> vectors_of(const Registers& r, const ForeignMemory& memory) {
  if (r.rdx > kMostVectorsOfACall) return refusal("too many vectors");
  std::vector<iovec> vectors(r.rdx);
  DROVER_CHECK(memory.read(ForeignAddress(r.rsi), std::as_writable_bytes(std::span(vectors))));
  return vectors;
}

Result<std::uint64_t> asked_for(const Registers& r, const ForeignMemory& memory) {
  if (r.orig_rax != SYS_writev) return r.rdx;
  DROVER_TRY(const auto vectors, vectors_of(r, memory));
  std::uint64_t total = 0;
  for (const iovec& v : vectors) total += v.iov_len;
  return total;
}

/// What is left of the vectors once `done` bytes have been written.
std::vector<iovec> rest_of(const std::vector<iovec>& vectors, std::uint64_t done) {
  std::vector<iovec> rest;
  for (iovec v : vectors) {
    const std::uint64_t skipped = std::min<std::uint64_t>(done, v.iov_len);
    done -= skipped;
    v.iov_base = static_cast<char*>(v.iov_base) + skipped;
    v.iov_len -= skipped;
    if (v.iov_len != 0 && rest.size() < kMostVectors) rest.push_back(v);
  }
  return rest;
}

/// Not a socket of datagrams, which come and go as a whole.
bool is_stream(pid_t pid, int fd) {
  const OwnedFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  const OwnedFd socket(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

}  // namespace

bool may_be_cut_short(int number, std::uint64_t fourth_argument) {
  // What is only looked at stays where it is: the rest cannot be had by itself.
  constexpr std::uint64_t kFlags = MSG_WAITALL | MSG_PEEK;
  if (number == SYS_recvfrom) return (fourth_argument & kFlags) == MSG_WAITALL;
  return number == SYS_write || number == SYS_writev || number == SYS_sendto;
}

bool transfers_wait(pid_t pid, int fd) {
  struct stat st {};
  const std::string link = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  if (stat(link.c_str(), &st) != 0) return false;
  if (S_ISSOCK(st.st_mode)) return is_stream(pid, fd);
  return S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode);
}

Result<bool> is_cut_short(const Registers& r, const ForeignMemory& memory) {
  const auto number = static_cast<std::int64_t>(r.orig_rax);
  const auto result = static_cast<std::int64_t>(r.rax);
  if (number < 0 || result <= 0 || !may_be_cut_short(static_cast<int>(number), r.r10)) return false;
  DROVER_TRY(const std::uint64_t asked, asked_for(r, memory));
  return static_cast<std::uint64_t>(result) < asked;
}

Result<Registers> continue_short_transfer(pid_t tid, const Registers& r,
                                          const ForeignMemory& memory, Injection& injection) {
  DROVER_TRY(const ContinuationPage page, continuation_page(tid, r, memory, injection));
  Record record{r.rax, r.rsi, r.rdx, r.rip};
  if (page.in_use) {
    DROVER_TRY(record, memory.read_record<Record>(page.record()));
    record.done += r.rax;
  }
  Registers rest = r;
  if (r.orig_rax == SYS_writev) {
    DROVER_TRY(const auto vectors, vectors_of(r, memory));
    const auto left = rest_of(vectors, r.rax);
    DROVER_CHECK(memory.write(page.extra(), std::as_bytes(std::span(left))));
    rest.rsi = page.extra().value();
    rest.rdx = left.size();
  } else {
    rest.rsi += r.rax;
    rest.rdx -= r.rax;
  }
  DROVER_CHECK(memory.write(page.code(), std::as_bytes(std::span(kCode))));
  DROVER_CHECK(memory.write_record(page.record(), record));
  return in_continued_call(rest, page, r.orig_rax);
}

}  // namespace drover
