/* covers: calls=openat,clock_nanosleep kind=forwarded; calls=mmap kind=either; breaks-when: a
   library loaded while away cannot be loaded, relocated, called or unloaded */
#include <dlfcn.h>

#include "conform.h"

int main(int argc, char** argv) {
  conform_begin(argc, argv, "mem_dlopen");
  conform_ready();
  while (conform_next()) {
    if (conform.round % 6 != 2) continue;
    void* library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL, "dlopen: %s", dlerror());
    double (*cube_root)(double);
    *(void**)&cube_root = dlsym(library, "cbrt");
    CHECK(cube_root != NULL, "dlsym: %s", dlerror());
    double value = conform.round;
    CHECK(seen((long long)(cube_root(value * value * value) + 0.5)) == conform.round, "cbrt");
    pause_ms(4);
    CHECK((int)(cube_root(27.0) + 0.5) == 3, "cbrt after a pause");
    CHECK(dlclose(library) == 0, "dlclose: %s", dlerror());
  }
  return conform_end();
}
