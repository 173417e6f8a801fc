#include "migrate/leaving_thread.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "migrate/jobs_process.h"

namespace drover {
namespace {

// For as long as another one lives a leading thread that has ended can be seen; any thread can for
// a moment. None can be seized.
TEST(LeavingThread, OneThatHasEndedIsNotThere) {
  const pid_t pid = fork();
  if (pid == 0) {
    pthread_t other;
    pthread_create(
        &other, nullptr, [](void*) -> void* { return pause(), nullptr; }, nullptr);
    syscall(SYS_exit, 0);
  }
  for (;;) {
    const auto status = read_process(pid);
    ASSERT_TRUE(status);
    if (status->state == 'Z') break;
    usleep(1000);
  }
  const auto memory = ForeignMemory::of(getpid());
  ASSERT_TRUE(memory);
  LeavingThread thread(pid, pid, *memory);
  const auto there = thread.seize();
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  ASSERT_TRUE(there) << there.error().message();
  EXPECT_FALSE(*there);
}

}  // namespace
}  // namespace drover
