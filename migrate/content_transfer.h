// Contents of mapped files on a data channel: offered by key, sent only where wanted.
#pragma once

#include <functional>

#include "common/secure_channel.h"
#include "migrate/image.h"
#include "migrate/page_stream.h"

namespace drover {

/// Reads `into.size()` bytes of a content from `offset` on.
using ContentReader =
    std::function<Status(std::uint32_t index, std::uint64_t offset, std::span<std::byte> into)>;

/// The payload of a kContent frame.
struct ReceivedPiece {
  std::uint32_t index = 0;
  std::uint64_t offset = 0;
  ByteView data;  ///< of the payload
};

/// Reads a kContent frame. Refuses a piece that does not lie in one of `contents`.
Result<ReceivedPiece> parse_content_piece(const std::vector<Content>& contents, ByteView payload);

/// Offers `contents`, numbered from `first_index` on, waits for what is wanted and sends that.
/// Meanwhile calls `alive` at least once a second if the channel takes as much. Gives the bytes of
/// content sent.
Result<std::uint64_t> send_contents(SecureChannel& channel, std::uint32_t first_index,
                                    const std::vector<Content>& contents, const ContentReader& read,
                                    const SignOfLife& alive = {});

}  // namespace drover
