#include "migrate/daemon_questions.h"

#include "common/foreign_words.h"
#include "common/log.h"
#include "migrate/jobs.h"
#include "migrate/messages.h"
#include "migrate/tickets.h"

namespace drover {
namespace {

constexpr std::size_t kMostCpuWords = 256;
constexpr std::size_t kMostWordsOfText = 4096;

Status check_job(const std::string& job) {
  if (!valid_job_id(job)) return refusal("malformed job id");
  return {};
}

Status check_prepare(const peer::PrepareBody& prepare) {
  DROVER_CHECK(check_job(prepare.job()));
  if (prepare.epoch() == 0) return refusal("epoch 0");
  if (prepare.pid() <= 1) return refusal("malformed pid");
  if (prepare.link().size() != kTicketBytes) return refusal("malformed link name");
  if (prepare.home().cpu_size() > static_cast<int>(kMostCpuWords))
    return refusal("too many CPU words");
  return {};
}

Status check_prepared(const peer::Prepared& prepared) {
  if (prepared.home_ticket().size() != kTicketBytes) return refusal("malformed ticket");
  if (!prepared.source_ticket().empty() && prepared.source_ticket().size() != kTicketBytes)
    return refusal("malformed ticket");
  return {};
}

bool is_answer(const peer::PeerMessage& message) {
  return message.has_prepared() || message.has_refused();
}

Error refused_by(const std::string& node, const peer::Refused& refused) {
  return {refused.link_lost() ? ENOLINK : 0, node + " " + plain_words(refused.why())};
}

}  // namespace

ProtocolRange spoken_by(const peer::PeerMessage& message) {
  return {message.oldest_protocol(), message.newest_protocol()};
}

Result<peer::PeerMessage> parse_peer_message(ByteView data, ProtocolRange speaks) {
  DROVER_TRY(auto message, decode_message<peer::PeerMessage>(data, "peer message"));
  if (message.newest_protocol() == 0 || message.oldest_protocol() > message.newest_protocol())
    return refusal("peer message: of no version of the protocol");
  if (!common_protocols(speaks, spoken_by(message)) && !message.has_refused()) {
    message.clear_message();
    return message;
  }
  Status good;
  using Case = peer::PeerMessage;
  switch (message.message_case()) {
    case Case::kPrepareBody:
      good = check_prepare(message.prepare_body());
      break;
    case Case::kPrepared:
      good = check_prepared(message.prepared());
      break;
    case Case::kRefused:
      if (message.refused().why().size() > kMostWordsOfText) good = refusal("too many words");
      break;
    case Case::kReleaseBody:
      good = check_job(message.release_body().job());
      break;
    case Case::kBodyState:
      good = check_job(message.body_state().job());
      break;
    case Case::MESSAGE_NOT_SET:
      good = refusal("of a kind that is not known here");
      break;
  }
  if (!good) return good.error().within("peer message");
  return message;
}

Result<std::unique_ptr<Questions>> Questions::create(EventLoop& loop, ControlBus& bus,
                                                     ProtocolRange speaks, Asked asked) {
  std::unique_ptr<Questions> self(new Questions(loop, bus, speaks, std::move(asked)));
  DROVER_TRY(self->watch_,
             loop.watch(bus.poll_fd(), EPOLLIN, [q = self.get()](std::uint32_t) { q->drain(); }));
  return self;
}

void Questions::ask(const std::string& node, peer::PeerMessage question, Answered answered) {
  const std::uint64_t number = next_++;
  question.set_question(number);
  Open& open = open_[number];
  open.node = node;
  open.answered = std::move(answered);
  const Status sent = send(node, question);
  open.question = std::move(question);
  if (sent)
    open.timer = loop_.after(kAskAgain, [this, number] { ask_again(number); });
  else
    open.timer = loop_.after({}, [this, number, why = sent.error()] { close(number, why); });
}

/// Places are prepared once for each epoch, however often they are asked for.
void Questions::ask_again(std::uint64_t number) {
  const auto found = open_.find(number);
  if (found == open_.end()) return;
  Open& open = found->second;
  if (const Status sent = send(open.node, open.question); !sent)
    log_info("control bus: to {}: {}", open.node, sent.error().message());
  const Error why = refusal(open.node + " does not answer");
  open.timer = loop_.after(kPatience - kAskAgain, [this, number, why] { close(number, why); });
}

void Questions::tell(const std::string& node, peer::PeerMessage message) {
  message.set_question(0);
  if (const Status sent = send(node, message); !sent)
    log_info("control bus: to {}: {}", node, sent.error().message());
}

Status Questions::send(const std::string& node, peer::PeerMessage& message) {
  message.set_oldest_protocol(speaks_.oldest);
  message.set_newest_protocol(speaks_.newest);
  return bus_.send(node, encode_message(message));
}

void Questions::drain() {
  while (const auto message = bus_.receive()) take(*message);
}

void Questions::take(const BusMessage& received) {
  const auto message = parse_peer_message(received.payload, speaks_);
  if (!message) return log_warn("from {}: {}", received.from, message.error().message());
  const ProtocolRange theirs = spoken_by(*message);
  note_versions(received.from, theirs);
  if (is_answer(*message)) {
    const auto open = open_.find(message->question());
    // A node answers only what it was asked itself.
    if (open == open_.end() || open->second.node != received.from) return;
    if (message->has_refused())
      close(message->question(), refused_by(received.from, message->refused()));
    else
      close(message->question(), *message);
    return;
  }
  const bool understood = common_protocols(speaks_, theirs).has_value();
  auto answer = understood ? asked_(received.from, *message) : no_common_version(received.from);
  if (!answer || message->question() == 0) return;
  answer->set_question(message->question());
  if (const Status sent = send(received.from, *answer); !sent)
    log_info("control bus: to {}: {}", received.from, sent.error().message());
}

void Questions::note_versions(const std::string& node, ProtocolRange spoken) {
  const auto known = spoken_.find(node);
  if (known != spoken_.end() && known->second == spoken) return;
  spoken_[node] = spoken;
  if (common_protocols(speaks_, spoken))
    log_info("{} speaks {}", node, in_words(spoken));
  else
    log_warn("{} speaks {}, and this node {}", node, in_words(spoken), in_words(speaks_));
}

/// What cannot be understood may have been the answer that others wait for.
peer::PeerMessage Questions::no_common_version(const std::string& node) {
  const std::string ours = in_words(speaks_);
  const std::string theirs = in_words(spoken_.at(node));
  std::vector<std::uint64_t> asked;
  for (const auto& [number, open] : open_)
    if (open.node == node) asked.push_back(number);
  for (const std::uint64_t number : asked)
    close(number, refusal(node + " speaks " + theirs + ", and this node " + ours));
  peer::PeerMessage answer;
  answer.mutable_refused()->set_why("speaks " + ours + ", and " + node + " " + theirs);
  return answer;
}

void Questions::close(std::uint64_t number, Result<peer::PeerMessage> outcome) {
  const auto found = open_.find(number);
  if (found == open_.end()) return;
  const Answered answered = std::move(found->second.answered);
  open_.erase(found);
  answered(std::move(outcome));
}

}  // namespace drover
