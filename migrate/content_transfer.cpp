#include "migrate/content_transfer.h"

#include <algorithm>

namespace drover {
namespace {

constexpr std::uint64_t kPiece = 1 << 20;
constexpr std::chrono::seconds kAnswerTimeout{20};

}  // namespace

Result<ReceivedPiece> parse_content_piece(const std::vector<Content>& contents, ByteView payload) {
  WireReader r(payload);
  const auto head = r.record<ContentPiece>();
  const ByteView data = r.raw(r.remaining());
  if (r.failed() || head.zero != 0 || head.index >= contents.size() ||
      head.offset > contents[head.index].size ||
      data.size() > contents[head.index].size - head.offset) {
    return refusal("content: malformed message");
  }
  return ReceivedPiece{head.index, head.offset, data};
}

Result<std::uint64_t> send_contents(SecureChannel& channel, std::uint32_t first_index,
                                    const std::vector<Content>& contents,
                                    const ContentReader& read) {
  if (contents.empty()) return std::uint64_t{0};
  DROVER_CHECK(channel.send(static_cast<std::uint16_t>(FrameType::kOfferContent),
                            ContentOffer{first_index, contents}.encode()));
  DROVER_TRY(const Frame answer, channel.receive_within(kAnswerTimeout));
  if (answer.type == static_cast<std::uint16_t>(FrameType::kFailed)) {
    WireReader r(answer.payload);
    return refusal(r.text());
  }
  if (answer.type != static_cast<std::uint16_t>(FrameType::kWantContent)) {
    return refusal("unexpected answer to an offer of contents");
  }
  DROVER_TRY(const ContentWant want, ContentWant::decode(answer.payload));
  Bytes buffer(kPiece);
  std::uint64_t sent = 0;
  for (const std::uint32_t index : want.indices) {
    if (index < first_index || index - first_index >= contents.size()) {
      return refusal("a content is wanted that was not offered");
    }
    const std::uint64_t size = contents[index - first_index].size;
    for (std::uint64_t offset = 0; offset < size; offset += kPiece) {
      const std::span<std::byte> piece(buffer.data(), std::min(kPiece, size - offset));
      DROVER_CHECK(read(index, offset, piece));
      const ContentPiece head{index, 0, offset};
      DROVER_CHECK(channel.send(static_cast<std::uint16_t>(FrameType::kContent),
                                std::as_bytes(std::span(&head, 1)), piece));
      sent += piece.size();
    }
  }
  return sent;
}

}  // namespace drover
