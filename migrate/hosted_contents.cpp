#include "migrate/hosted_contents.h"

#include <sys/sendfile.h>
#include <sys/stat.h>

#include "common/log.h"
#include "migrate/content_transfer.h"

namespace drover {
namespace {

Sharing sharing_of(const Content& content) {
  return content.is_public != 0 ? Sharing::kPublic : Sharing::kPrivate;
}

Result<std::pair<std::uint64_t, std::uint64_t>> inode_of(const OwnedFd& file) {
  struct stat st {};
  if (fstat(file.get(), &st) != 0) return errno_error("a file's content");
  return std::pair<std::uint64_t, std::uint64_t>(st.st_dev, st.st_ino);
}

Result<OwnedFd> private_copy(const OwnedFd& file, std::uint64_t size) {
  DROVER_TRY(OwnedFd copy, make_memory_file(size));
  off_t at = 0;
  while (static_cast<std::uint64_t>(at) < size) {
    const ssize_t n = sendfile(copy.get(), file.get(), &at, size - static_cast<std::uint64_t>(at));
    if (n < 0) return errno_error("copy a file's content");
    if (n == 0) return refusal("a file's content is shorter than it should be");
  }
  return seal_memory_file(std::move(copy));
}

}  // namespace

Result<ContentWant> ContentReceiver::on_offer(const ContentOffer& offer) {
  if (offer.first_index != contents_.all.size()) {
    return refusal("contents are offered out of order");
  }
  if (offer.contents.size() > kMaxContents - contents_.all.size()) {
    return refusal("too many contents are offered");
  }
  ContentWant want;
  for (const Content& content : offer.contents) {
    const auto index = static_cast<std::uint32_t>(contents_.all.size());
    DROVER_TRY(OwnedFd file, at_hand(content));
    contents_.all.push_back(content);
    contents_.files.push_back(std::move(file));
    if (contents_.files.back()) continue;
    DROVER_TRY(auto filling, store_->fill(sharing_of(content), content.key, content.size));
    incoming_.emplace(index, Incoming{std::move(filling)});
    if (content.size == 0) {
      DROVER_CHECK(finish(index));
    } else {
      want.indices.push_back(index);
    }
  }
  return want;
}

// What a body maps is known again by its file, so two contents of an image never share one, even
// if they are equal.
Result<OwnedFd> ContentReceiver::at_hand(const Content& content) {
  DROVER_TRY(auto found, store_->find(sharing_of(content), content.key));
  if (!found) return OwnedFd();
  DROVER_TRY(const auto inode, inode_of(*found));
  if (!inodes_.insert(inode).second) return OwnedFd();
  return *std::move(found);
}

Status ContentReceiver::on_piece(ByteView payload) {
  DROVER_TRY(const ReceivedPiece piece, parse_content_piece(contents_.all, payload));
  const auto found = incoming_.find(piece.index);
  if (found == incoming_.end()) return refusal("content: a piece of one that is whole");
  const std::uint64_t size = contents_.all[piece.index].size;
  Incoming& incoming = found->second;
  if (piece.offset != incoming.taken || piece.data.empty()) {
    return refusal("content: a piece out of order");
  }
  DROVER_CHECK(incoming.filling->write(piece.offset, piece.data));
  incoming.taken += piece.data.size();
  return incoming.taken == size ? finish(piece.index) : Status{};
}

Status ContentReceiver::finish(std::uint32_t index) {
  const auto found = incoming_.find(index);
  auto file = found->second.filling->finish();
  incoming_.erase(found);
  if (!file && file.error().code == EBADMSG) {
    log_info("{} changed while it was being sent", contents_.all[index].path);
    return {};
  }
  if (!file) return file.error();
  DROVER_TRY(const auto inode, inode_of(*file));
  if (!inodes_.insert(inode).second) {
    // The cache has given the file of an equal one.
    DROVER_TRY(file, private_copy(*file, contents_.all[index].size));
  }
  contents_.files[index] = *std::move(file);
  return {};
}

bool ContentReceiver::usable(std::uint32_t index) const {
  return index < contents_.files.size() && static_cast<bool>(contents_.files[index]);
}

}  // namespace drover
