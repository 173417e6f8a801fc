#include "migrate/control_line.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "migrate/messages.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kNoWait{0};
/// So much of what is said again and again may wait: the rest of the socket's buffer is for what
/// is said once. In bytes as the kernel counts them, with what it needs itself.
constexpr int kMostUnread = 64 * 1024;
constexpr milliseconds kLongestLook{50};

}  // namespace

Status ControlLine::say(const google::protobuf::MessageLite& event) {
  if (!open_) return Error{EPIPE, "tell migrated"};
  return socket_.send(encode_message(event), {}, kNoWait);
}

void ControlLine::say_again(const google::protobuf::MessageLite& event) {
  if (unread_bytes() < kMostUnread) static_cast<void>(say(event));
}

Result<std::optional<Packet>> ControlLine::receive(milliseconds timeout) {
  auto packet = socket_.receive(timeout);
  if ((packet && !*packet) || (!packet && packet.error().code != ETIMEDOUT)) open_ = false;
  return packet;
}

// The kernel wakes nobody when the last packet is read.
void ControlLine::await_heard(milliseconds patience) const {
  const auto deadline = Clock::now() + patience;
  milliseconds pause{1};
  while (unheard() && Clock::now() < deadline) {
    ::poll(nullptr, 0, static_cast<int>(pause.count()));
    pause = std::min(pause * 2, kLongestLook);
  }
}

int ControlLine::unread_bytes() const {
  int bytes = 0;
  return ::ioctl(socket_.fd(), SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

}  // namespace drover
