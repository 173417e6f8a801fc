// Today's deputy and guest, as programs, against a node of version 1 (tests/wire_v1): what they are
// ordered, by a migrated of either version, they do with it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <filesystem>
#include <fstream>

#include "migrate/jobs.h"
#include "migrate/messages.h"
#include "migrate/order.pb.h"
#include "migrate/spawn.h"
#include "tests/unit/traced_child.h"
#include "tests/wire_v1/peer.h"

namespace drover {
namespace {

using wire_v1::Channel;
using wire_v1::connection;
using wire_v1::Image;
using wire_v1::read;

/// The program numbers of the cluster tests (its lines are explained there), and its output.
class Numbers {
 public:
  Numbers() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    out_.reset(ends[0]);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      const std::string path = *own_program_directory() + "/../cluster/numbers";
      ::setenv("EVERY_MS", "2", 1);
      ::execl(path.c_str(), "numbers", nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
  }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;
  ~Numbers() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }

  /// The next line that comes within the patience.
  std::string line() {
    while (text_.find('\n') == std::string::npos) {
      pollfd item{out_.get(), POLLIN, 0};
      if (::poll(&item, 1, kPatienceMs) != 1) return "nothing came";
      if (!take()) return "the end";
    }
    const std::size_t end = text_.find('\n');
    std::string line = text_.substr(0, end);
    text_.erase(0, end + 1);
    return line;
  }
  /// Takes the lines that have come, each as it should be.
  void expect_what_has_come() {
    pollfd item{out_.get(), POLLIN, 0};
    while (::poll(&item, 1, 0) == 1 && take()) {
    }
    while (text_.find('\n') != std::string::npos) expect_next(line());
  }
  void expect_lines(int count) {
    for (int i = 0; i < count; ++i) expect_next(line());
  }
  void expect_next(const std::string& line) {
    char expected[64];
    std::snprintf(expected, sizeof expected, "%llu %016llx", next_, chain_);
    ASSERT_EQ(line, expected);
    ++next_;
    chain_ = chain_ * 6364136223846793005ULL + 1442695040888963407ULL;
  }
  unsigned long long count() const { return next_; }

  int wait() {
    int status = -1;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return status;
  }

 private:
  static constexpr int kPatienceMs = 30'000;
  bool take() {
    char buffer[4096];
    const ssize_t n = ::read(out_.get(), buffer, sizeof buffer);
    if (n > 0) text_.append(buffer, static_cast<std::size_t>(n));
    return n > 0;
  }

  OwnedFd out_;
  pid_t pid_ = -1;
  std::string text_;
  unsigned long long next_ = 0;
  unsigned long long chain_ = 1;
};

/// A deputy or a guest, and the part of migrated.
class Program {
 public:
  explicit Program(Result<Spawned> spawned) {
    EXPECT_TRUE(spawned) << spawned.error().message();
    if (spawned) spawned_.emplace(*std::move(spawned));
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (!spawned_) return;
    ::kill(spawned_->pid, SIGKILL);
    ::waitpid(spawned_->pid, nullptr, 0);
  }
  template <class Order>
  void order(const Order& order, const OwnedFd* socket = nullptr, bool with_own_end = false) {
    std::vector<int> fds;
    if (socket != nullptr) fds.push_back(socket->get());
    if (with_own_end) fds.push_back(spawned_->socket.fd());
    ASSERT_TRUE(spawned_->socket.send(encode_message(order), fds));
  }
  /// The next that the program says of this kind.
  template <class Event>
  Event hear(const std::function<bool(const Event&)>& wanted) {
    for (;;) {
      auto packet = spawned_->socket.receive(wire_v1::kPatience);
      if (!packet || !*packet) break;
      const auto event = decode_message<Event>((*packet)->data, "test");
      if (event && wanted(*event)) return *event;
    }
    ADD_FAILURE() << "the program does not say what was waited for";
    return {};
  }
  int wait() {
    int status = -1;
    EXPECT_EQ(::waitpid(spawned_->pid, &status, 0), spawned_->pid);
    spawned_.reset();
    return status;
  }

 private:
  std::optional<Spawned> spawned_;
};

SpawnSettings settings() {
  SpawnSettings s;
  s.program_directory = *own_program_directory();
  s.node = "n1";
  s.deputy_user = "nobody";
  return s;
}

ChannelKey some_key(int seed) {
  ChannelKey key;
  key.fill(static_cast<std::byte>(seed));
  return key;
}

/// Whether the migrated that gives the orders knows that there is more than one version.
class WithANodeOfVersion1 : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (kHasShadow) GTEST_SKIP() << "not with a sanitizer";
  }

  template <class Order>
  void agree(Order& order) const {
    if (GetParam()) order.set_protocol(1);
  }

  /// Orders the deputy to move the process to the guest behind the channel, which has greeted it.
  Channel begin_outbound(Program& deputy, pid_t pid) {
    auto [ours, theirs] = connection();
    order::DeputyOrder order;
    order::Outbound& outbound = *order.mutable_outbound();
    outbound.set_job(job_);
    outbound.set_epoch(1);
    outbound.set_pid(pid);
    outbound.set_target("n2");
    outbound.set_key(to_field(some_key(1)));
    outbound.set_root_allowed(true);
    outbound.set_lease_ms(60'000);
    agree(outbound);
    deputy.order(order, &theirs, true);
    Channel home(std::move(ours), ChannelRole::kAcceptor, some_key(1), true);
    greet_home(home, {1, job_, 1});
    return home;
  }

  /// The image of numbers as it runs, which then ends.
  Image image_of(Numbers& numbers) {
    numbers.expect_lines(5);
    Program deputy(spawn_deputy(settings(), numbers.pid()));
    Channel home = begin_outbound(deputy, numbers.pid());
    Image image = take_image(home, true);
    numbers.expect_what_has_come();
    ::kill(numbers.pid(), SIGKILL);
    return image;
  }

  /// A guest with a home of version 1 that has greeted it.
  Channel begin_guest(Program& guest, std::uint64_t epoch, std::uint32_t uid) {
    auto [ours, theirs] = connection();
    order::GuestOrder order;
    order::HostBody& host = *order.mutable_host_body();
    host.set_job(job_);
    host.set_home("n1");
    host.set_epoch(epoch);
    host.set_outer_uid(uid);
    host.set_key(to_field(some_key(2)));
    agree(host);
    guest.order(order, &theirs, true);
    Channel channel(std::move(ours), ChannelRole::kDialler, some_key(2), false);
    greet_guest(channel, {1, job_, epoch});
    return channel;
  }

  const std::string job_ = new_job_id();
};

std::string name_of(const ::testing::TestParamInfo<bool>& info) {
  return info.param ? "OrderedByTodays" : "OrderedByOne";
}

// ------------------------------------------------------------------ a guest of version 1

wire_v1::Reply call(Channel& home, wire_v1::Call call) {
  static std::uint64_t sequence = 0;
  call.sequence = ++sequence;
  home.say(wire_v1::kCall, call.write());
  auto reply = home.expect<wire_v1::Reply>(wire_v1::kReply);
  EXPECT_EQ(reply.tid, call.tid);
  EXPECT_EQ(reply.sequence, call.sequence);
  EXPECT_EQ(reply.end, wire_v1::Reply::kDone);
  return reply;
}

void make_calls(Channel& home, Numbers& numbers) {
  wire_v1::Call plain;
  plain.tid = numbers.pid();
  plain.number = SYS_getppid;
  EXPECT_EQ(call(home, plain).result, ::getpid());

  wire_v1::Call write = plain;
  write.number = SYS_write;
  write.arguments = {1, 0, 6};
  write.layout_size = 8;
  write.relocations = {{0x80000000U | 1, 0}};
  for (const char c : std::string("hello\n")) write.data.push_back(static_cast<std::byte>(c));
  EXPECT_EQ(call(home, write).result, 6);
  EXPECT_EQ(numbers.line(), "hello");

  wire_v1::Call getcwd = plain;
  getcwd.number = SYS_getcwd;
  getcwd.arguments = {0, PATH_MAX};
  getcwd.layout_size = PATH_MAX;
  getcwd.relocations = {{0x80000000U, 0}};
  getcwd.outs = {{.offset = 0, .capacity = PATH_MAX, .unit = 1, .length = 1}};
  const auto reply = call(home, getcwd);
  const std::string here = std::filesystem::current_path();
  EXPECT_EQ(reply.result, static_cast<std::int64_t>(here.size() + 1));
  EXPECT_EQ(to_field(reply.data), std::string(here.c_str(), here.size() + 1));
}

/// A signal that is blocked waits at home until it is not.
void take_a_signal(Channel& home, pid_t pid) {
  const std::uint64_t usr2 = 1ULL << (SIGUSR2 - 1);
  home.say(wire_v1::kAction, wire_v1::ActionChange{SIGUSR2, pid, {0x401000, 0, 0, 0}}.write());
  home.say(wire_v1::kMask, wire_v1::Mask{pid, 1, usr2}.write());
  EXPECT_EQ(home.expect<wire_v1::MaskSet>(wire_v1::kMaskSet).tid, pid);
  ASSERT_EQ(::kill(pid, SIGUSR2), 0);
  home.say(wire_v1::kMask, wire_v1::Mask{pid, 1, 0}.write());
  const auto signal = home.expect<wire_v1::Signal>(wire_v1::kSignal);
  EXPECT_EQ(signal.tid, pid);
  siginfo_t info;
  std::memcpy(&info, signal.info.data(), sizeof info);
  EXPECT_EQ(info.si_signo, SIGUSR2);
  EXPECT_EQ(info.si_pid, ::getpid());
  EXPECT_EQ(signal.pad, (std::array<std::byte, 3>{}));
  home.expect(wire_v1::kMaskSet);
  home.say(wire_v1::kAction, wire_v1::ActionChange{SIGUSR2, pid, {}}.write());
}

void take_commit(Channel& home) {
  home.say(wire_v1::kReady);
  EXPECT_EQ(home.expect<wire_v1::Commit>(wire_v1::kCommit).lease_ms, 60'000u);
  home.say(wire_v1::kRunning);
}

void expect_move(Program& deputy) {
  const auto event = deputy.hear<order::DeputyEvent>(
      [](const order::DeputyEvent& event) { return event.has_move_ended(); });
  EXPECT_TRUE(event.move_ended().ok()) << event.move_ended().error();
}

TEST_P(WithANodeOfVersion1, ADeputyServesItsGuestAndTakesTheProcessHome) {
  Numbers numbers;
  numbers.expect_lines(5);
  Program deputy(spawn_deputy(settings(), numbers.pid()));
  Channel first = begin_outbound(deputy, numbers.pid());
  const Image image = take_image(first, true);
  numbers.expect_what_has_come();
  take_commit(first);
  expect_move(deputy);
  make_calls(first, numbers);
  take_a_signal(first, numbers.pid());

  // It hops to another node of version 1. What the first guest would send there, the test has.
  auto [ours, theirs] = connection();
  order::DeputyOrder hop;
  hop.mutable_hop()->set_epoch(2);
  hop.mutable_hop()->set_target("n3");
  hop.mutable_hop()->set_key(to_field(some_key(3)));
  hop.mutable_hop()->set_source_address("10.0.0.3:7471");
  hop.mutable_hop()->set_source_ticket(std::string(16, 't'));
  agree(*hop.mutable_hop());
  deputy.order(hop, &theirs);
  Channel second(std::move(ours), ChannelRole::kAcceptor, some_key(3), true);
  greet_home(second, {1, job_, 2});
  const auto expected = second.expect<wire_v1::HopOrder>(wire_v1::kHop);
  const auto ordered = first.expect<wire_v1::HopOrder>(wire_v1::kHop);
  EXPECT_EQ(ordered.write(), expected.write());
  EXPECT_EQ(ordered.address, "10.0.0.3:7471");
  EXPECT_EQ(ordered.epoch, 2u);
  first.say(wire_v1::kImageSent, wire_v1::ImageSent{1}.write());
  take_commit(second);
  first.expect(wire_v1::kDiscard);
  expect_move(deputy);
  make_calls(second, numbers);

  order::DeputyOrder recall;
  recall.mutable_recall()->set_reason("asked");
  deputy.order(recall);
  second.expect(wire_v1::kRecall);
  give_image(second, image, false);
  second.expect(wire_v1::kDiscard);
  expect_move(deputy);
  EXPECT_EQ(deputy.wait(), 0);
  numbers.expect_lines(20);
  ::kill(numbers.pid(), SIGUSR1);
  for (std::string line = numbers.line(); line.rfind("end", 0) != 0; line = numbers.line())
    ASSERT_NO_FATAL_FAILURE(numbers.expect_next(line));
  EXPECT_EQ(numbers.wait(), 0);
}

TEST_P(WithANodeOfVersion1, ADeputyEndsAProcessThatItsGuestSaysHasEnded) {
  Numbers numbers;
  numbers.expect_lines(5);
  Program deputy(spawn_deputy(settings(), numbers.pid()));
  Channel home = begin_outbound(deputy, numbers.pid());
  take_image(home, true);
  take_commit(home);
  wire_v1::Exit exit;
  exit.tid = numbers.pid();
  exit.status = 7;
  exit.pad.fill(std::byte{0xaa});  // as it was sent then
  home.say(wire_v1::kExit, exit.write());
  home.expect(wire_v1::kDiscard);
  const int status = numbers.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
}

// ------------------------------------------------------------------ a home of version 1

/// Serves the body's calls until it has written so many lines more: the next one, or what else it
/// says, is left to the caller.
wire_v1::Message serve(Channel& guest, Numbers& numbers, int lines) {
  for (;;) {
    wire_v1::Message message = guest.next();
    if (message.type == wire_v1::kMask && read<wire_v1::Mask>(message.payload).wants_answer) {
      const auto mask = read<wire_v1::Mask>(message.payload);
      guest.say(wire_v1::kMaskSet, wire_v1::MaskSet{mask.tid}.write());
    }
    if (message.type == wire_v1::kMask || message.type == wire_v1::kAction) continue;
    if (message.type != wire_v1::kCall || lines == 0) return message;
    const auto call = read<wire_v1::Call>(message.payload);
    wire_v1::Reply reply;
    reply.tid = call.tid;
    reply.sequence = call.sequence;
    std::string line;
    if (call.number == SYS_write) {
      line = to_field(call.data).substr(0, call.arguments[2]);
      reply.result = static_cast<std::int64_t>(line.size());
    }
    guest.say(wire_v1::kReply, reply.write());
    if (line.rfind("end", 0) == 0) {
      EXPECT_EQ(line, "end " + std::to_string(numbers.count()) + "\n");
    } else if (!line.empty()) {
      EXPECT_EQ(line.back(), '\n');
      numbers.expect_next(line.substr(0, line.size() - 1));
      if (::testing::Test::HasFatalFailure()) return {};
      --lines;
    }
  }
}

/// Tells the guest to leave while its body is in a call.
void tell_to_leave(Channel& guest, Numbers& numbers, wire_v1::Type order,
                   const wire_v1::Bytes& payload = {}) {
  const wire_v1::Message call = serve(guest, numbers, 20);
  ASSERT_EQ(call.type, wire_v1::kCall);
  guest.say(order, payload);
  hold(guest, read<wire_v1::Call>(call.payload));
}

void commit(Channel& guest) {
  guest.expect(wire_v1::kReady);
  guest.say(wire_v1::kCommit, wire_v1::Commit{60'000}.write());
  guest.expect(wire_v1::kRunning);
  guest.say(wire_v1::kHeartbeat);
}

/// The handler that numbers has for SIGUSR1 makes it end.
void expect_end_by_signal(Channel& guest, Numbers& numbers, Program& program) {
  wire_v1::Signal signal;
  signal.tid = numbers.pid();
  siginfo_t info{};
  info.si_signo = SIGUSR1;
  info.si_pid = 1;
  std::memcpy(signal.info.data(), &info, sizeof info);
  signal.pad.fill(std::byte{0xaa});
  guest.say(wire_v1::kSignal, signal.write());
  const wire_v1::Message last = serve(guest, numbers, INT_MAX);
  ASSERT_EQ(last.type, wire_v1::kExit);
  const auto exit = read<wire_v1::Exit>(last.payload);
  EXPECT_EQ(exit.status, 0);
  EXPECT_EQ(exit.whole_process, 1);
  EXPECT_EQ(exit.pad, (std::array<std::byte, 3>{}));
  guest.say(wire_v1::kDiscard);
  EXPECT_EQ(guest.expect<wire_v1::Words>(wire_v1::kEnded).why, "told to end");
  EXPECT_EQ(program.wait(), 0);
}

class AHomeOfVersion1 : public WithANodeOfVersion1 {
 protected:
  void SetUp() override {
    WithANodeOfVersion1::SetUp();
    settings_ = settings();
    settings_.guest_root = ::testing::TempDir() + "guest-root-" + std::to_string(::getpid());
    std::filesystem::create_directories(settings_.guest_root);
  }
  void TearDown() override { std::filesystem::remove_all(settings_.guest_root); }
  Result<Spawned> spawn() { return spawn_guest(settings_, uid_ += 2, {}); }

  SpawnSettings settings_;
  std::uint32_t uid_ = 1879048192 + 8000 + 256 * static_cast<std::uint32_t>(getpid());
};

TEST_P(AHomeOfVersion1, HasAGuestBuildAndServeABodyAndGetsItsImage) {
  Numbers numbers;
  const Image image = image_of(numbers);
  Program program(spawn());
  Channel guest = begin_guest(program, 1, uid_);
  give_image(guest, image, true);
  commit(guest);
  tell_to_leave(guest, numbers, wire_v1::kRecall);
  const Image home = take_image(guest, false);
  EXPECT_EQ(read<wire_v1::Layout>(home.layout).brk, read<wire_v1::Layout>(image.layout).brk);
  const auto state = read<wire_v1::State>(home.state);
  ASSERT_EQ(state.threads.size(), 1u);
  EXPECT_EQ(state.threads[0].tid, numbers.pid());
  EXPECT_EQ(state.threads[0].name, "numbers");
  EXPECT_FALSE(home.pages.empty());
  guest.say(wire_v1::kImageRefused);  // so it goes on there
  expect_end_by_signal(guest, numbers, program);
}

TEST_P(AHomeOfVersion1, HasAProcessHopToAGuestFromANodeOfVersion1AndOnToAnother) {
  Numbers numbers;
  const Image image = image_of(numbers);
  Program program(spawn());
  Channel guest = begin_guest(program, 5, uid_);
  wire_v1::HopOrder hop;
  hop.address = "10.0.0.2:7471";
  hop.key = some_key(4);
  hop.epoch = 5;
  guest.say(wire_v1::kHop, hop.write());
  auto [ours, theirs] = connection();
  order::GuestOrder accepted;
  accepted.mutable_accepted()->set_ticket(std::string(16, '\0'));
  program.order(accepted, &theirs);
  {
    Channel source(std::move(ours), ChannelRole::kDialler, some_key(4), false);
    give_image(source, image, true);
  }
  commit(guest);
  EXPECT_EQ(guest.expect<wire_v1::Threads>(wire_v1::kThreads).tids,
            std::vector<std::int32_t>{numbers.pid()});

  hop.key = some_key(5);
  hop.epoch = 6;
  hop.ticket.fill(std::byte{7});
  tell_to_leave(guest, numbers, wire_v1::kHop, hop.write());
  const auto dial = program.hear<order::GuestEvent>(
      [](const order::GuestEvent& event) { return event.has_dial(); });
  EXPECT_EQ(dial.dial().address(), hop.address);
  std::tie(ours, theirs) = connection();
  order::GuestOrder dialled;
  dialled.mutable_dialled()->set_ticket(dial.dial().ticket());
  program.order(dialled, &theirs);
  Channel target(std::move(ours), ChannelRole::kAcceptor, some_key(5), false);
  const Image onward = take_image(target, true);
  EXPECT_EQ(onward.identity, image.identity);
  EXPECT_EQ(onward.offers.size(), 1u);
  EXPECT_GT(guest.expect<wire_v1::ImageSent>(wire_v1::kImageSent).bytes, 0u);
  guest.say(wire_v1::kImageRefused);
  expect_end_by_signal(guest, numbers, program);
}

INSTANTIATE_TEST_SUITE_P(Released, WithANodeOfVersion1, ::testing::Bool(), name_of);
INSTANTIATE_TEST_SUITE_P(Released, AHomeOfVersion1, ::testing::Bool(), name_of);

}  // namespace
}  // namespace drover
