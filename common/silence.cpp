#include "common/silence.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace drover {

Status notice_silence(int socket, std::chrono::milliseconds limit) {
  const int on = 1;
  constexpr int kMostProbes = 100;  // the kernel allows 127
  const auto seconds = static_cast<int>(limit / std::chrono::seconds(1));
  const int interval = (seconds + kMostProbes - 1) / kMostProbes;
  const int probes = (seconds - 1) / interval;
  const auto unacknowledged = static_cast<unsigned>(limit.count());
  if (setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0 ||
      setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &interval, sizeof interval) != 0 ||
      setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval) != 0 ||
      setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes) != 0 ||
      setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged, sizeof unacknowledged) !=
          0) {
    return errno_error("watch a connection for silence");
  }
  return {};
}

}  // namespace drover
