// The contents of file mappings at the remote end: taken from the node's cache where it has them,
// and else from whoever sends the image.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "migrate/content_store.h"
#include "migrate/image.h"

namespace drover {

/// The contents of an image, by index, and the immutable files that hold them.
struct HostedContents {
  std::vector<Content> all;
  std::vector<OwnedFd> files;
};

class ContentReceiver {
 public:
  /// `store` outlives this.
  explicit ContentReceiver(ContentStore& store) : store_(&store) {}

  /// Takes up an offer, whose indices go on where the last one's ended; the answer says what is
  /// to be sent.
  Result<ContentWant> on_offer(const ContentOffer& offer);
  /// A piece of what is wanted.
  Status on_piece(ByteView payload);
  /// Whether the content is here, whole and verified. One that changed while it was being sent
  /// is not; home offers it again.
  bool usable(std::uint32_t index) const;

  HostedContents& contents() { return contents_; }

 private:
  struct Incoming {
    std::unique_ptr<Filling> filling;
    std::uint64_t taken = 0;
  };

  /// Invalid if it is not.
  Result<OwnedFd> at_hand(const Content& content);
  Status finish(std::uint32_t index);

  ContentStore* store_;
  HostedContents contents_;
  std::map<std::uint32_t, Incoming> incoming_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> inodes_;  // of the files given out
};

}  // namespace drover
