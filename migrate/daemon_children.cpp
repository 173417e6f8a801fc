#include "migrate/daemon_children.h"

#include <sys/signalfd.h>
#include <sys/wait.h>

#include <csignal>

namespace drover {

Result<std::unique_ptr<Children>> Children::create(EventLoop& loop) {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGCHLD);
  OwnedFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return errno_error("signalfd");
  std::unique_ptr<Children> children(new Children(std::move(fd)));
  DROVER_TRY(children->watch_, loop.watch(children->signals_.get(), EPOLLIN,
                                          [c = children.get()](std::uint32_t) { c->reap(); }));
  return children;
}

void Children::reap() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof info) > 0) {
  }
  // Signals merge: one may stand for many children.
  int status = 0;
  pid_t pid;
  while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
    const auto found = handlers_.find(pid);
    if (found == handlers_.end()) continue;
    const Handler handler = std::move(found->second);
    handlers_.erase(found);
    handler(status);
  }
}

}  // namespace drover
