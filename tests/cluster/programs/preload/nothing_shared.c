// Gives a program memory of its own where it asks for anonymous memory to share with its children:
// so that a child can be moved which in earnest does not need it, as those of stress-ng, which only
// count in it.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) {
  if ((flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_SHARED)
    flags = (flags & ~MAP_TYPE) | MAP_PRIVATE;
  return (void*)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

void* mmap64(void*, size_t, int, int, int, off_t) __attribute__((alias("mmap")));
