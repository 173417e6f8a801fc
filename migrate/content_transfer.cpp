#include "migrate/content_transfer.h"

#include <poll.h>

#include <algorithm>

namespace drover {
namespace {

/// Small, so that there is a sign of life in time on a slow link.
constexpr std::uint64_t kPiece = 128 << 10;
constexpr std::chrono::seconds kAnswerTimeout{20};
constexpr std::chrono::milliseconds kSignPeriod{1000};

Result<Frame> await_answer(SecureChannel& channel, const SignOfLife& alive) {
  const auto deadline = std::chrono::steady_clock::now() + kAnswerTimeout;
  for (;;) {
    DROVER_TRY(std::optional<Frame> answer, channel.receive());
    if (answer) return *std::move(answer);
    if (std::chrono::steady_clock::now() >= deadline)
      return Error{ETIMEDOUT, "answer to an offer of contents"};
    pollfd ready{channel.poll_fd(), POLLIN, 0};
    poll(&ready, 1, static_cast<int>(kSignPeriod.count()));
    if (alive) DROVER_CHECK(alive());
  }
}

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
                                    const std::vector<Content>& contents, const ContentReader& read,
                                    const SignOfLife& alive) {
  if (contents.empty()) return std::uint64_t{0};
  DROVER_CHECK(channel.send(static_cast<std::uint16_t>(FrameType::kOfferContent),
                            ContentOffer{first_index, contents}.encode()));
  DROVER_TRY(const Frame answer, await_answer(channel, alive));
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
      if (alive) DROVER_CHECK(alive());
      sent += piece.size();
    }
  }
  return sent;
}

}  // namespace drover
