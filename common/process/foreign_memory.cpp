#include "common/process/foreign_memory.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>

namespace drover {
namespace {

std::string describe(const char* verb, ForeignAddress a, std::size_t n) {
  char text[96];
  std::snprintf(text, sizeof text, "%s %zu bytes at %#llx of the process", verb, n,
                static_cast<unsigned long long>(a.value()));
  return text;
}

}  // namespace

Result<ForeignMemory> ForeignMemory::of(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/mem";
  OwnedFd mem(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!mem) return errno_error("open " + path);
  return ForeignMemory(pid, std::move(mem));
}

Result<std::size_t> ForeignMemory::read_some(ForeignAddress from, std::span<std::byte> into) const {
  std::size_t done = 0;
  while (done < into.size()) {
    iovec local{into.data() + done, into.size() - done};
    iovec remote{reinterpret_cast<void*>(from.value() + done), into.size() - done};
    ssize_t n = process_vm_readv(pid_, &local, 1, &remote, 1, 0);
    if (n < 0 && errno != EFAULT && errno != EPERM) {
      return errno_error(describe("read", from, into.size()));
    }
    if (n <= 0 && mem_) {
      // One page at a time: pages without read permission stand between readable ones.
      const std::uint64_t at = from.value() + done;
      const std::size_t to_page_end = kPageSize - at % kPageSize;
      n = pread(mem_.get(), into.data() + done, std::min(to_page_end, into.size() - done),
                static_cast<off_t>(at));
    }
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Status ForeignMemory::read(ForeignAddress from, std::span<std::byte> into) const {
  DROVER_TRY(const std::size_t n, read_some(from, into));
  if (n != into.size()) return Error{EFAULT, describe("read", from, into.size())};
  return {};
}

std::size_t ForeignMemory::read_as_process(ForeignAddress from, std::span<std::byte> into) const {
  iovec local{into.data(), into.size()};
  iovec remote{reinterpret_cast<void*>(from.value()), into.size()};
  const ssize_t n = process_vm_readv(pid_, &local, 1, &remote, 1, 0);
  return n > 0 ? static_cast<std::size_t>(n) : 0;
}

bool ForeignMemory::write_as_process(ForeignAddress to, ByteView data) const {
  iovec local{const_cast<std::byte*>(data.data()), data.size()};
  iovec remote{reinterpret_cast<void*>(to.value()), data.size()};
  return process_vm_writev(pid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(data.size());
}

Status ForeignMemory::write(ForeignAddress to, ByteView data) const {
  std::size_t done = 0;
  while (done < data.size()) {
    iovec local{const_cast<std::byte*>(data.data()) + done, data.size() - done};
    iovec remote{reinterpret_cast<void*>(to.value() + done), data.size() - done};
    ssize_t n = process_vm_writev(pid_, &local, 1, &remote, 1, 0);
    if (n <= 0 && mem_) {
      const std::uint64_t at = to.value() + done;
      const std::size_t to_page_end = kPageSize - at % kPageSize;
      n = pwrite(mem_.get(), data.data() + done, std::min(to_page_end, data.size() - done),
                 static_cast<off_t>(at));
    }
    if (n <= 0) return errno_error(describe("write", to, data.size()));
    done += static_cast<std::size_t>(n);
  }
  return {};
}

// Nothing can be read of an address space without users; an address that nothing is mapped at gives
// EIO instead (mem_rw in fs/proc/base.c).
bool ForeignMemory::replaced() const {
  std::byte byte{};
  return mem_ && pread(mem_.get(), &byte, sizeof byte, kPageSize) == 0;
}

}  // namespace drover
