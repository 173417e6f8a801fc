// Noticing that the other end of a TCP connection has fallen silent.
#pragma once

#include <chrono>

#include "common/result.h"

namespace drover {

/// Makes the connection fail with ETIMEDOUT when its peer has not been heard of for about
/// `limit` (whole seconds): by TCP's own keep-alive when it is idle, and by the age of what is
/// not acknowledged when it is not (tcp(7): TCP_KEEPIDLE and its fellows, TCP_USER_TIMEOUT).
Status notice_silence(int socket, std::chrono::milliseconds limit);

}  // namespace drover
