// The contents of mapped files that this node has seen, on disk: DIRECTORY/SCOPE/SHA256.
//
// Run by one trusted program (CacheServer), never by a guest: guests run under throwaway uids and
// get read-only descriptors. What is promised of a file that `find` or `finish` gives out:
//   - its bytes had that SHA-256 when they were verified: as they came in, and once more the first
//     time that this program finds a file which an earlier program had left;
//   - since then nothing has changed it as far as owner, mode, size, inode, mtime and ctime tell.
// A file that fails is removed and counts as not there. There is no protection against root or the
// cache's own user, nor against a disk that returns different bytes later.
//
// Because everything is verified again after a restart, nothing is ever synced: a file that a
// crash left torn is found to be false and goes.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/owned_fd.h"
#include "common/result.h"
#include "migrate/content_store.h"

namespace drover {

/// Scope of contents that every user may share.
inline constexpr char kPublicScope[] = "public";
/// Scope of one user of one home node.
std::string private_scope(const std::string& home, std::uint32_t uid);

class ContentCache {
 public:
  /// Opens, or makes with mode 0700, the cache of this user. Refuses a directory of another user,
  /// one that others may write to, and one mounted noexec, whose files no program could map.
  /// Removes what programs that died have left unfinished.
  static Result<ContentCache> open(const std::string& directory, std::uint64_t limit_bytes);

  /// The content as a read-only file, or nothing. `scope` is one of the two kinds above.
  Result<std::optional<OwnedFd>> find(std::string_view scope, const ContentKey& key);

  /// Begins to take in a content. Only once it is whole and verified are contents used longest ago
  /// (by mtime, which finding sets) removed until this one fits under the limit; until then it is
  /// on disk besides them. A body that has one mapped keeps it, and its disk space, until it ends.
  /// What is too large for the limit, together with all that is being filled, or for the disk, is
  /// held in memory instead: see in_memory. Two that fill the same content do not disturb each
  /// other.
  class CacheFilling;
  Result<std::unique_ptr<CacheFilling>> fill(std::string_view scope, const ContentKey& key,
                                             std::uint64_t size);

  /// Bytes of finished contents, by this program's account.
  std::uint64_t used_bytes() const { return used_; }
  std::uint64_t limit_bytes() const { return limit_; }

 private:
  /// What stat says of a file: equal while nothing has changed it.
  struct Stamp {
    ino_t inode = 0;
    off_t size = 0;
    std::int64_t modified_ns = 0, changed_ns = 0;
    bool operator==(const Stamp&) const = default;
  };
  struct Stored;

  ContentCache(OwnedFd directory, std::uint64_t limit)
      : directory_(std::move(directory)), limit_(limit) {}

  static Stamp stamp_of(const struct stat& status);
  Result<OwnedFd> open_scope(std::string_view scope, bool create) const;
  /// Nothing if the file is what its name says.
  std::optional<std::string> fault(const OwnedFd& file, const std::string& name,
                                   const ContentKey& key);
  void note_use(const OwnedFd& file, const std::string& name);
  template <class Each>
  void for_each_file(Each each) const;
  void count();
  void make_room(std::uint64_t bytes);

  OwnedFd directory_;
  std::uint64_t limit_;
  std::uint64_t used_ = 0;
  std::uint64_t filling_ = 0;  ///< bytes announced by unfinished fillings
  std::map<std::string, Stamp> verified_;
};

/// A content on its way into the cache. Must not outlive it.
class ContentCache::CacheFilling : public Filling {
 public:
  ~CacheFilling() override;
  Status write(std::uint64_t offset, ByteView data) override;
  Result<OwnedFd> finish() override;
  /// Whether it ended up in memory, so that nobody else will find it.
  bool in_memory() const { return temporary_.empty(); }

 private:
  friend class ContentCache;
  CacheFilling(ContentCache& cache, std::string name, const ContentKey& key, OwnedFd scope,
               std::string temporary, HashedFile file);
  Status move_to_memory();
  void drop_temporary();
  Result<OwnedFd> publish();

  ContentCache& cache_;
  std::string name_;  ///< SCOPE/SHA256
  ContentKey key_;
  OwnedFd scope_;
  std::string temporary_;  ///< its name in the scope for now; empty: it is in memory
  HashedFile file_;
};

}  // namespace drover
