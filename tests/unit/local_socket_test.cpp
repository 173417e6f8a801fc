#include "common/local_socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace drover {
namespace {

using namespace std::chrono_literals;

class LocalSocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/drover-local-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    path_ = directory_ + "/socket";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  std::string path_;
};

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator entries("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

std::string text_of(const Packet& packet) {
  return {reinterpret_cast<const char*>(packet.data.data()), packet.data.size()};
}

TEST_F(LocalSocketTest, PacketsKeepTheirBoundsAndOrder) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  ASSERT_TRUE(ends->first.send(as_bytes("one")));
  ASSERT_TRUE(ends->first.send(as_bytes("two, longer")));
  EXPECT_EQ(text_of(**ends->second.receive(1s)), "one");
  EXPECT_EQ(text_of(**ends->second.receive(1s)), "two, longer");
}

TEST_F(LocalSocketTest, DescriptorsArriveUsableAndCloseOnExec) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  int pipe_fds[2];
  ASSERT_EQ(::pipe2(pipe_fds, 0), 0);
  OwnedFd reader(pipe_fds[0]), writer(pipe_fds[1]);
  const int sent[] = {writer.get(), reader.get()};
  ASSERT_TRUE(ends->first.send(as_bytes("take these"), sent));
  auto packet = ends->second.receive(1s);
  ASSERT_TRUE(packet && *packet);
  ASSERT_EQ((*packet)->fds.size(), 2u);
  for (const OwnedFd& fd : (*packet)->fds) EXPECT_TRUE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC);
  ASSERT_EQ(::write((*packet)->fds[0].get(), "x", 1), 1);
  char c = 0;
  ASSERT_EQ(::read(reader.get(), &c, 1), 1);
  EXPECT_EQ(c, 'x');
}

TEST_F(LocalSocketTest, TheLargestPacketWithTheMostDescriptorsPasses) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  const Bytes data(kMaxPacketBytes, std::byte{7});
  const std::vector<int> fds(kMaxPacketFds, 0);
  ASSERT_TRUE(ends->first.send(data, fds));
  auto packet = ends->second.receive(1s);
  ASSERT_TRUE(packet && *packet);
  EXPECT_EQ((*packet)->data, data);
  EXPECT_EQ((*packet)->fds.size(), kMaxPacketFds);
}

TEST_F(LocalSocketTest, OversizedAndEmptyPacketsAreNotSent) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  EXPECT_EQ(ends->first.send(Bytes(kMaxPacketBytes + 1)).error().code, EMSGSIZE);
  EXPECT_EQ(ends->first.send({}).error().code, EINVAL);
  const std::vector<int> fds(kMaxPacketFds + 1, 0);
  EXPECT_FALSE(ends->first.send(as_bytes("x"), fds));
  EXPECT_EQ(ends->second.receive(0ms).error().code, ETIMEDOUT);
}

TEST_F(LocalSocketTest, AnOversizedPacketOfAPeerIsRefusedAndTheNextOneArrives) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  const int room = 4 * static_cast<int>(kMaxPacketBytes);
  ::setsockopt(ends->first.fd(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  const Bytes data(kMaxPacketBytes + 1);
  if (::send(ends->first.fd(), data.data(), data.size(), 0) < 0)
    GTEST_SKIP() << "the machine's wmem_max forbids such a packet";
  ASSERT_TRUE(ends->first.send(as_bytes("small")));
  EXPECT_EQ(ends->second.receive(1s).error().code, EMSGSIZE);
  EXPECT_EQ(text_of(**ends->second.receive(1s)), "small");
}

TEST_F(LocalSocketTest, ReceiveTimesOutWhenNothingComes) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ends->second.receive(50ms).error().code, ETIMEDOUT);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 50ms);
}

TEST_F(LocalSocketTest, AClosedPeerIsNothingToReceiveAndAnErrorToSend) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  ASSERT_TRUE(ends->first.send(as_bytes("last words")));
  ASSERT_TRUE(ends->second.send(as_bytes("never read")));
  { LocalSocket gone = std::move(ends->first); }
  EXPECT_EQ(text_of(**ends->second.receive(1s)), "last words");
  auto packet = ends->second.receive(1s);
  ASSERT_TRUE(packet);
  EXPECT_FALSE(packet->has_value());
  EXPECT_EQ(ends->second.send(as_bytes("x")).error().code, EPIPE);
}

TEST_F(LocalSocketTest, SendGivesUpOnAPeerThatDoesNotRead) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  Status status;
  for (int i = 0; i < 100 && status; ++i)
    status = ends->first.send(Bytes(kMaxPacketBytes), {}, 10ms);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ETIMEDOUT);
}

TEST_F(LocalSocketTest, NoDescriptorLeaksWhenAPacketIsThrownAway) {
  auto ends = LocalSocket::pair();
  ASSERT_TRUE(ends);
  const std::size_t before = open_descriptors();
  const int fds[] = {0, 1};
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(ends->first.send(as_bytes("x"), fds));
    ASSERT_TRUE(ends->second.receive(1s));
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(LocalSocketTest, AListenerSaysWhoConnects) {
  auto listener = LocalListener::open(path_);
  ASSERT_TRUE(listener) << listener.error().message();
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0666u);
  auto client = LocalSocket::connect(path_);
  ASSERT_TRUE(client) << client.error().message();
  auto server = listener->accept(1s);
  ASSERT_TRUE(server);
  auto peer = server->peer();
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->pid, ::getpid());
  EXPECT_EQ(peer->uid, ::getuid());
  ASSERT_TRUE(client->send(as_bytes("hello")));
  EXPECT_EQ(text_of(**server->receive(1s)), "hello");
  EXPECT_EQ(listener->accept(10ms).error().code, ETIMEDOUT);
}

TEST_F(LocalSocketTest, WhoHasTheSameEndCannotMakeUsWaitForEver) {
  auto sockets = LocalSocket::pair();
  ASSERT_TRUE(sockets);
  ASSERT_TRUE(sockets->second.send(as_bytes("hello")));
  const int far = 1 << 20;
  ASSERT_EQ(::setsockopt(sockets->first.fd(), SOL_SOCKET, SO_PEEK_OFF, &far, sizeof far), 0);
  EXPECT_EQ(sockets->first.receive(0ms).error().code, EPROTO);
  EXPECT_EQ(sockets->first.receive(kForever).error().code, EPROTO);
}

TEST_F(LocalSocketTest, AStaleSocketIsReplacedAServedOneIsNot) {
  auto first = LocalListener::open(path_);
  ASSERT_TRUE(first);
  EXPECT_EQ(LocalListener::open(path_).error().code, EADDRINUSE);
  // A program that is killed leaves its socket behind: the name stays, nobody listens.
  std::filesystem::rename(path_, path_ + ".kept");
  { const LocalListener gone = *std::move(first); }
  std::filesystem::rename(path_ + ".kept", path_);
  auto second = LocalListener::open(path_);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_TRUE(LocalSocket::connect(path_));
}

TEST_F(LocalSocketTest, AFileThatIsNoSocketIsLeftAlone) {
  std::ofstream(path_) << "precious";
  EXPECT_EQ(LocalListener::open(path_).error().code, ENOTSOCK);
  EXPECT_TRUE(std::filesystem::is_regular_file(path_));
}

TEST_F(LocalSocketTest, AListenerRemovesItsSocketWhenItEnds) {
  { ASSERT_TRUE(LocalListener::open(path_)); }
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_EQ(LocalSocket::connect(path_).error().code, ENOENT);
}

}  // namespace
}  // namespace drover
