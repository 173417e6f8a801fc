#include "migrate/capture.h"

#include "tests/unit/traced_child.h"

namespace drover {

// No mask holds it back while the thread is led out of the vDSO: the process is stopped, and stays.
TEST(Capture, AStopIsNotLostIfTheThreadIsInTheVdso) {
  if (kPutsHandlersOff) GTEST_SKIP() << "not with ThreadSanitizer";
  TracedChild child([] {
    timespec now{};
    for (;;) clock_gettime(CLOCK_MONOTONIC, &now);
    return 0;
  });
  child.seize();
  child.interrupt();
  const auto areas = read_memory_areas(child.pid());
  ASSERT_TRUE(areas);
  const auto vdso = find_vdso(*areas);
  ASSERT_TRUE(vdso);
  while (!vdso->contains(ForeignAddress(child.thread().registers()->rip))) {
    ASSERT_TRUE(child.thread().resume());
    child.interrupt();
  }
  kill(child.pid(), SIGSTOP);
  const auto captured = capture_thread(child.thread(), child.memory(), *vdso);
  ASSERT_TRUE(captured) << captured.error().message();
  EXPECT_FALSE(vdso->contains(ForeignAddress(captured->registers.rip)));
  EXPECT_EQ(captured->mask, 0U);
  child.detach();
  int status = 0;
  ASSERT_EQ(waitpid(child.pid(), &status, WUNTRACED), child.pid());
  EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  const auto pending = pending_signals(child.pid());
  ASSERT_TRUE(pending);
  EXPECT_EQ(*pending, 0U);
}

TEST(Capture, SealedMemoryStays) {
  MemoryArea area;
  area.range = {ForeignAddress(kPageSize), ForeignAddress(2 * kPageSize)};
  EXPECT_TRUE(check_areas_can_move({area}));
  area.flags.sealed = true;
  const Status movable = check_areas_can_move({area});
  ASSERT_FALSE(movable);
  EXPECT_NE(movable.error().message().find("sealed"), std::string::npos);
}

TEST(Capture, OfSharedWritableMemoryOnlyTheCountersOfAJavaMachineTravel) {
  MemoryArea area;
  area.range = {ForeignAddress(kPageSize), ForeignAddress(2 * kPageSize)};
  area.shared = area.flags.may_write = true;
  area.inode = 7;
  for (const char* name : {"/tmp/hsperfdata_me/123", "/tmp/hsperfdata_/1"}) {
    area.name = name;
    EXPECT_TRUE(check_areas_can_move({area})) << name;
  }
  for (const char* name : {"/tmp/hsperfdata_me/", "/tmp/hsperfdata_me/12a", "/tmp/hsperfdata_12",
                           "/tmp/hsperfdata_me/a/12", "/srv/tmp/hsperfdata_me/12", "/dev/zero"}) {
    area.name = name;
    EXPECT_FALSE(check_areas_can_move({area})) << name;
  }
  area.name = "/tmp/hsperfdata_me/123";
  area.deleted = true;
  EXPECT_FALSE(check_areas_can_move({area}));
}

}  // namespace drover
