#include "migrate/content_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace drover {

namespace {

constexpr std::size_t kPiece = 1 << 20;
#ifndef MFD_NOEXEC_SEAL
constexpr unsigned MFD_NOEXEC_SEAL = 8;  // Linux 6.3
#endif
/// Not for execve; mapping it executable is something else and stays possible.
constexpr unsigned kMemoryFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

Status write_all(const OwnedFd& file, std::uint64_t offset, ByteView data) {
  while (!data.empty()) {
    const ssize_t n = pwrite(file.get(), data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("write content");
    data = data.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

/// Calls `use` with the bytes of [from, to), piece by piece.
template <class Use>
Status read_range(const OwnedFd& file, std::uint64_t from, std::uint64_t to, Use use) {
  std::vector<std::byte> piece(std::min<std::uint64_t>(kPiece, to - from));
  while (from < to) {
    const std::size_t wanted = std::min<std::uint64_t>(piece.size(), to - from);
    const ssize_t n = pread(file.get(), piece.data(), wanted, static_cast<off_t>(from));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("read content");
    if (n == 0) return Error{EBADMSG, "content is too short"};
    DROVER_CHECK(use(from, ByteView(piece.data(), static_cast<std::size_t>(n))));
    from += static_cast<std::uint64_t>(n);
  }
  return {};
}

Status check_key(const ContentKey& actual, const ContentKey& key) {
  if (actual == key) return {};
  return Error{EBADMSG, "content does not match its key " + hexadecimal(key)};
}

}  // namespace

class MemoryStore::MemoryFilling : public Filling {
 public:
  MemoryFilling(MemoryStore& store, const ContentKey& key, HashedFile file)
      : store_(store), key_(key), file_(std::move(file)) {}

  Status write(std::uint64_t offset, ByteView data) override { return file_.write(offset, data); }

  Result<OwnedFd> finish() override {
    DROVER_CHECK(file_.verify(key_));
    DROVER_TRY(OwnedFd copy, seal_memory_file(file_.take()));
    store_.keep(key_, copy);
    return copy;
  }

 private:
  MemoryStore& store_;
  ContentKey key_;
  HashedFile file_;
};

Result<std::optional<OwnedFd>> MemoryStore::find(Sharing, const ContentKey& key) {
  const auto found = held_.find(key);
  if (found == held_.end()) return std::optional<OwnedFd>{};
  OwnedFd copy(fcntl(found->second.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return errno_error("content " + hexadecimal(key));
  return std::optional(std::move(copy));
}

Result<std::unique_ptr<Filling>> MemoryStore::fill(Sharing, const ContentKey& key,
                                                   std::uint64_t size) {
  DROVER_TRY(OwnedFd file, make_memory_file(size));
  return std::unique_ptr<Filling>(
      std::make_unique<MemoryFilling>(*this, key, HashedFile(std::move(file), size)));
}

void MemoryStore::keep(const ContentKey& key, const OwnedFd& file) {
  OwnedFd copy(fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
  if (copy) held_.insert_or_assign(key, std::move(copy));
}

std::string hexadecimal(const ContentKey& key) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : key) {
    text.push_back(kDigits[std::to_integer<unsigned>(b) >> 4]);
    text.push_back(kDigits[std::to_integer<unsigned>(b) & 15]);
  }
  return text;
}

Status HashedFile::write(std::uint64_t offset, ByteView data) {
  if (offset > size_ || data.size() > size_ - offset) {
    return refusal("content: bytes beyond its size");
  }
  DROVER_CHECK(write_all(file_, offset, data));
  if (in_order_ && offset == hashed_) {
    hash_.update(data);
    hashed_ += data.size();
  } else if (!data.empty()) {
    in_order_ = false;
  }
  return {};
}

Status HashedFile::verify(const ContentKey& key) {
  if (!in_order_ || hashed_ != size_) return verify_file(file_, size_, key);
  in_order_ = false;  // a second time reads the file
  return check_key(hash_.finish(), key);
}

Status HashedFile::continue_in(OwnedFd other) {
  const auto copy = [&](std::uint64_t at, ByteView data) { return write_all(other, at, data); };
  off_t at = 0;
  while ((at = lseek(file_.get(), at, SEEK_DATA)) >= 0) {
    off_t end = lseek(file_.get(), at, SEEK_HOLE);
    if (end < 0) return errno_error("content: SEEK_HOLE");
    end = std::min(end, static_cast<off_t>(size_));
    if (at >= end) break;
    DROVER_CHECK(
        read_range(file_, static_cast<std::uint64_t>(at), static_cast<std::uint64_t>(end), copy));
    at = end;
  }
  if (at < 0 && errno != ENXIO) return errno_error("content: SEEK_DATA");
  file_ = std::move(other);
  return {};
}

Result<OwnedFd> make_memory_file(std::uint64_t size) {
  OwnedFd file(memfd_create("drover-content", kMemoryFlags | MFD_NOEXEC_SEAL));
  if (!file && errno == EINVAL) file.reset(memfd_create("drover-content", kMemoryFlags));
  if (!file) return errno_error("content: memfd_create");
  if (size > INT64_MAX || ftruncate(file.get(), static_cast<off_t>(size)) < 0) {
    return errno_error("content: memory file of " + std::to_string(size) + " bytes");
  }
  return file;
}

Result<OwnedFd> seal_memory_file(OwnedFd file) {
  if (fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) <
      0) {
    return errno_error("content: seal");
  }
  // Sealed it is immutable already, but only of a read-only descriptor do all kernels allow
  // shared mappings.
  OwnedFd read_only(
      open(("/proc/self/fd/" + std::to_string(file.get())).c_str(), O_RDONLY | O_CLOEXEC));
  if (!read_only) return errno_error("content: open memory file read-only");
  return read_only;
}

Status verify_file(const OwnedFd& file, std::uint64_t size, const ContentKey& key) {
  DROVER_TRY(const ContentKey actual, hash_file(file, size));
  return check_key(actual, key);
}

Result<ContentKey> hash_file(const OwnedFd& file, std::uint64_t size) {
  Sha256 hash;
  DROVER_CHECK(read_range(file, 0, size, [&](std::uint64_t, ByteView data) {
    hash.update(data);
    return Status();
  }));
  return hash.finish();
}

}  // namespace drover
