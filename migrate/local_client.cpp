#include "migrate/local_client.h"

#include "migrate/messages.h"

namespace drover {

Result<LocalClient> LocalClient::connect(const std::string& run_dir) {
  auto socket = LocalSocket::connect(run_dir + "/" + kLocalSocketName);
  if (!socket) return socket.error().within("cannot reach migrated");
  return LocalClient(*std::move(socket));
}

Result<std::vector<local::Reply>> LocalClient::ask(const local::Request& request,
                                                   std::chrono::milliseconds patience) {
  DROVER_CHECK(socket_.send(encode_message(request)));
  std::vector<local::Reply> replies;
  do {
    auto packet = socket_.receive(patience);
    if (!packet) return packet.error().within("no answer from migrated");
    if (!*packet) return refusal("migrated closed the connection");
    DROVER_TRY(auto reply, decode_message<local::Reply>((*packet)->data, "answer of migrated"));
    if (!reply.error().empty()) return refusal(reply.error());
    replies.push_back(std::move(reply));
  } while (replies.back().more());
  return replies;
}

Result<local::Reply> LocalClient::ask_one(const local::Request& request,
                                          std::chrono::milliseconds patience) {
  DROVER_TRY(auto replies, ask(request, patience));
  return std::move(replies.front());
}

}  // namespace drover
