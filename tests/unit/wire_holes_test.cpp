// What is between the members of a message is not sent as it was found in memory.
#include <gtest/gtest.h>

#include <cstring>
#include <new>

#include "migrate/image.h"

namespace drover {
namespace {

/// An object on memory that was used before: `found` stands in its holes.
template <class T>
class Reused {
 public:
  Reused(std::byte found, const T& value) {
    std::memset(memory_, std::to_integer<int>(found), sizeof memory_);
    object_ = new (memory_) T;  // not T(value): a copy may copy the holes too
    set(*object_, value);
  }
  const T& operator*() const { return *object_; }

 private:
  static void set(ExitMessage& to, const ExitMessage& from) {
    to.tid = from.tid;
    to.status = from.status;
    to.whole_process = from.whole_process;
  }
  static void set(SignalMessage& to, const SignalMessage& from) {
    to.tid = from.tid;
    to.although_blocked = from.although_blocked;
    to.info = from.info;
  }
  static void set(FatalMessage& to, const FatalMessage& from) {
    to.tid = from.tid;
    to.info = from.info;
  }
  static void set(stack_t& to, const stack_t& from) {
    to.ss_sp = from.ss_sp;
    to.ss_flags = from.ss_flags;
    to.ss_size = from.ss_size;
  }

  alignas(T) std::byte memory_[sizeof(T)];
  T* object_;
};

template <class T>
void expect_the_same_whatever_was_there(const T& message) {
  const Reused<T> one(std::byte{0xa5}, message);
  const Reused<T> other(std::byte{0x5a}, message);
  EXPECT_EQ(encode_record(*one), encode_record(*other));
  EXPECT_EQ(encode_record(*one).size(), sizeof(T));
}

siginfo_t some_signal() {
  siginfo_t info{};
  info.si_signo = SIGUSR1;
  info.si_code = SI_USER;
  info.si_pid = 77;
  return info;
}

TEST(Holes, OfAnExitAreNotSent) {
  ExitMessage message;
  message.tid = 5;
  message.status = 3;
  expect_the_same_whatever_was_there(message);
}

TEST(Holes, OfASignalAreNotSent) {
  SignalMessage message;
  message.tid = 5;
  message.info = some_signal();
  expect_the_same_whatever_was_there(message);
}

TEST(Holes, OfAFatalSignalAreNotSent) {
  FatalMessage message;
  message.tid = 5;
  message.info = some_signal();
  expect_the_same_whatever_was_there(message);
}

TEST(Holes, OfAnAlternateStackAreNotSent) {
  stack_t stack{};
  stack.ss_size = 8192;
  const Reused<stack_t> one(std::byte{0xa5}, stack);
  const Reused<stack_t> other(std::byte{0x5a}, stack);
  ProcessState state;
  state.threads.resize(1);
  const auto encoded_with = [&](const stack_t& alternate) {
    std::memcpy(&state.threads[0].alternate_stack, &alternate, sizeof alternate);
    return state.encode(1);
  };
  EXPECT_EQ(encoded_with(*one), encoded_with(*other));
}

}  // namespace
}  // namespace drover
