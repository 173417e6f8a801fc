// Contents of mapped files on a node that has none of the files: found by their SHA-256, or filled
// with the bytes that home sends. What a body maps is always a descriptor that nobody can change.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/owned_fd.h"
#include "common/result.h"
#include "common/sha256.h"
#include "common/wire.h"

namespace drover {

/// SHA-256 of the full bytes.
using ContentKey = Sha256Digest;

std::string hexadecimal(const ContentKey& key);

/// Who may be given a content that is already here. That it is here says that somebody has it.
enum class Sharing : std::uint8_t {
  kPrivate,  ///< bodies of the same user of the same home
  kPublic,   ///< everybody: the file is root's and world-readable at home
};

/// A content on its way in. Dropping it unfinished leaves nothing behind.
class Filling {
 public:
  virtual ~Filling() = default;
  /// Bytes for `offset`, in any order and also again; in ascending order they are hashed as they
  /// come. Never beyond the size announced; what is never written is zeros.
  virtual Status write(std::uint64_t offset, ByteView data) = 0;
  /// Verifies the key (EBADMSG if the bytes are others) and gives an immutable, read-only file.
  /// Once; nothing can be written afterwards.
  virtual Result<OwnedFd> finish() = 0;
};

class ContentStore {
 public:
  virtual ~ContentStore() = default;
  /// An immutable, read-only file with that content, or nothing if it is not here.
  virtual Result<std::optional<OwnedFd>> find(Sharing sharing, const ContentKey& key) = 0;
  /// Begins to take in a content of `size` bytes. The filling must not outlive the store.
  virtual Result<std::unique_ptr<Filling>> fill(Sharing sharing, const ContentKey& key,
                                                std::uint64_t size) = 0;
};

/// Keeps contents in sealed memory files (memfd_create(2)), for as long as this program runs.
class MemoryStore : public ContentStore {
 public:
  Result<std::optional<OwnedFd>> find(Sharing sharing, const ContentKey& key) override;
  Result<std::unique_ptr<Filling>> fill(Sharing sharing, const ContentKey& key,
                                        std::uint64_t size) override;
  /// Keeps a copy of the descriptor of a content that is verified and sealed.
  void keep(const ContentKey& key, const OwnedFd& file);

 private:
  class MemoryFilling;
  std::map<ContentKey, OwnedFd> held_;
};

/// A file that is being written and hashed. Shared by the kinds of filling.
class HashedFile {
 public:
  /// `hash_along`: hash what comes in order as it comes; otherwise `verify` reads the file.
  HashedFile(OwnedFd file, std::uint64_t size, bool hash_along = true)
      : file_(std::move(file)), size_(size), in_order_(hash_along) {}

  Status write(std::uint64_t offset, ByteView data);
  /// EBADMSG unless the content is `size` bytes with that key.
  Status verify(const ContentKey& key);
  /// Goes on in another file, which gets what is written so far.
  Status continue_in(OwnedFd other);

  /// Gives the writable descriptor up; nothing can be written any more.
  OwnedFd take() { return std::move(file_); }
  std::uint64_t size() const { return size_; }

 private:
  OwnedFd file_;
  std::uint64_t size_;
  Sha256 hash_;
  std::uint64_t hashed_ = 0;  ///< bytes from the start that the hash has seen
  bool in_order_;             ///< every write so far was at `hashed_`
};

/// A memory file that can be sealed.
Result<OwnedFd> make_memory_file(std::uint64_t size);
/// Makes a memory file immutable and gives a read-only descriptor of it.
Result<OwnedFd> seal_memory_file(OwnedFd file);

/// EBADMSG unless the first `size` bytes of an open file have that key.
Status verify_file(const OwnedFd& file, std::uint64_t size, const ContentKey& key);

/// The SHA-256 of an open file from its start to `size`.
Result<ContentKey> hash_file(const OwnedFd& file, std::uint64_t size);

}  // namespace drover
