#include "common/silence.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace drover {

Status notice_silence(int socket, std::chrono::milliseconds limit) {
  const int on = 1;
  const int second = 1;
  const auto probes = static_cast<int>(limit / std::chrono::seconds(1)) - 1;
  const auto unacknowledged = static_cast<unsigned>(limit.count());
  if (setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0 ||
      setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &second, sizeof second) != 0 ||
      setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &second, sizeof second) != 0 ||
      setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes) != 0 ||
      setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged, sizeof unacknowledged) !=
          0) {
    return errno_error("watch a connection for silence");
  }
  return {};
}

}  // namespace drover
