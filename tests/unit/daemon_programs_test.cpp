#include "migrate/daemon_programs.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "migrate/control_line.h"
#include "migrate/order.pb.h"

namespace drover {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kPatience{10};

/// A child that holds its end of a socket and, if it is told to, an end that it was sent.
class ProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto sockets = LocalSocket::pair();
    ASSERT_TRUE(sockets);
    auto [ours, theirs] = *std::move(sockets);
    const pid_t pid = ::fork();
    if (pid == 0) {
      { const LocalSocket not_mine = std::move(ours); }
      run_child(std::move(theirs));
    }
    pid_ = pid;
    spawned_ = Spawned{pid, std::move(ours)};
  }
  void TearDown() override {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  /// Says back what it is told, and keeps what it is sent, in the place of what it was sent before.
  [[noreturn]] static void run_child(LocalSocket socket) {
    OwnedFd kept;
    for (;;) {
      auto packet = socket.receive(kPatience);
      if (!packet || !*packet) ::_exit(0);
      for (OwnedFd& fd : (*packet)->fds) kept = std::move(fd);
      static_cast<void>(socket.send((*packet)->data));
    }
  }

  /// Sends a word and descriptor, and hears it back.
  static void tell(LocalSocket& socket, std::string_view word, std::span<const int> fds = {}) {
    ASSERT_TRUE(socket.send(as_bytes(word), fds));
    const auto heard = socket.receive(kPatience);
    ASSERT_TRUE(heard && *heard);
    EXPECT_EQ((*heard)->data.size(), word.size());
  }

  pid_t pid_ = -1;
  std::optional<Spawned> spawned_;
};

TEST_F(ProgramTest, IsFoundAgainWithItsSocketByWhoComesNext) {
  ProgramIdentity identity;
  {
    auto first = Program::started(*std::move(spawned_));
    ASSERT_TRUE(first) << first.error().message();
    identity = first->identity();
    EXPECT_EQ(identity.pid, pid_);
    tell(*first->socket(), "keep this", std::array{first->socket()->fd()});
    ASSERT_TRUE(first->socket()->send(as_bytes("said last")));
  }
  auto second = Program::find(identity);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(second->socket(), nullptr);
  ASSERT_TRUE(second->reclaim_socket());
  const auto waiting = second->socket()->receive(kPatience);
  ASSERT_TRUE(waiting && *waiting) << "what was said meanwhile has waited";
  tell(*second->socket(), "and on it goes");
  second->signal(SIGKILL);
  pollfd ended{second->pidfd(), POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 10'000), 1);
}

TEST_F(ProgramTest, ThatHasNotReadItsFirstOrderKeepsNothingYet) {
  auto first = Program::started(*std::move(spawned_));
  ASSERT_TRUE(first);
  tell(*first->socket(), "are you there");  // and have closed what fork left you
  auto second = Program::find(first->identity());
  ASSERT_TRUE(second);
  const Status early = second->reclaim_socket();
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code, ENOENT);
  tell(*first->socket(), "keep this", std::array{first->socket()->fd()});
  EXPECT_TRUE(second->reclaim_socket());
}

TEST_F(ProgramTest, CannotPassOffAnotherSocketAsOurs) {
  auto first = Program::started(*std::move(spawned_));
  ASSERT_TRUE(first);
  ProgramIdentity identity = first->identity();
  tell(*first->socket(), "keep this", std::array{first->socket()->fd()});
  auto forged = LocalSocket::pair();
  ASSERT_TRUE(forged);
  tell(*first->socket(), "keep that instead", std::array{forged->first.fd()});
  auto second = Program::find(identity);
  ASSERT_TRUE(second);
  EXPECT_FALSE(second->reclaim_socket()) << "it has another inode";

  struct stat status {};
  ASSERT_EQ(::fstat(forged->first.fd(), &status), 0);
  identity.socket_inode = status.st_ino;
  auto third = Program::find(identity);
  ASSERT_TRUE(third);
  EXPECT_FALSE(third->reclaim_socket()) << "it has another cookie, should inodes ever come again";
  EXPECT_EQ(third->socket(), nullptr);
}

TEST_F(ProgramTest, ThatHasAnothersPidIsNotIt) {
  auto first = Program::started(*std::move(spawned_));
  ASSERT_TRUE(first);
  ProgramIdentity identity = first->identity();
  identity.start_ticks += 1;
  EXPECT_EQ(Program::find(identity).error().code, ESRCH);
  identity = {};
  EXPECT_EQ(Program::find(identity).error().code, ESRCH);
}

TEST_F(ProgramTest, ThatHasEndedIsNotFound) {
  auto first = Program::started(*std::move(spawned_));
  ASSERT_TRUE(first);
  const ProgramIdentity identity = first->identity();
  first->signal(SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  EXPECT_EQ(Program::find(identity).error().code, ESRCH);
}

order::DeputyEvent event(std::size_t bytes) {
  order::DeputyEvent event;
  event.mutable_ended()->set_message(std::string(bytes, 'x'));
  return event;
}

TEST(AControlLine, IsNeverFilledWithWhatIsSaidAgain) {
  auto sockets = LocalSocket::pair();
  ASSERT_TRUE(sockets);
  ControlLine line(std::move(sockets->second));
  line.keep(sockets->first.release());  // nobody reads
  for (int i = 0; i < 10'000; ++i) line.say_again(event(2000));
  EXPECT_TRUE(line.say(event(2000))) << "there is room for what is said once";
}

TEST(AControlLine, NeverWaitsForAReader) {
  auto sockets = LocalSocket::pair();
  ASSERT_TRUE(sockets);
  ControlLine line(std::move(sockets->second));
  line.keep(sockets->first.release());
  Status said;
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 10'000 && said; ++i) said = line.say(event(2000));
  EXPECT_FALSE(said) << "the kernel keeps so much, and no more";
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(4));
}

TEST(AControlLine, KnowsWhetherItWasHeard) {
  auto sockets = LocalSocket::pair();
  ASSERT_TRUE(sockets);
  ControlLine line(std::move(sockets->second));
  EXPECT_FALSE(line.unheard());
  ASSERT_TRUE(line.say(event(1)));
  EXPECT_TRUE(line.unheard());
  line.await_heard(milliseconds(5));
  EXPECT_TRUE(line.unheard());
  ASSERT_TRUE(sockets->first.receive(kPatience));
  line.await_heard(kPatience);
  EXPECT_FALSE(line.unheard());
}

TEST(AControlLine, ClosesWithItsOnlyOtherEnd) {
  auto sockets = LocalSocket::pair();
  ASSERT_TRUE(sockets);
  ControlLine line(std::move(sockets->second));
  EXPECT_GE(line.fd(), 0);
  sockets->first.release().reset();
  const auto packet = line.receive(kPatience);
  EXPECT_TRUE(packet && !*packet);
  EXPECT_EQ(line.fd(), -1);
  EXPECT_FALSE(line.say(event(1)));
  line.await_heard(kPatience);
}

}  // namespace
}  // namespace drover
