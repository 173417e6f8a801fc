// The body of the elf_*.c programs, which differ only in how they are linked (see CMakeLists.txt).
#pragma once

#include "conform.h"

static __thread long own = 5;
static long initialized[1000] = {1, 2, 3};
static long zeroes[100000];
static const char* const words[] = {"one", "two", "three"};
static long add(long a, long b) { return a + b; }
static long multiply(long a, long b) { return a * b; }
static long (*const operations[])(long, long) = {add, multiply};

static int run_image(int argc, char** argv, const char* name) {
  conform_begin(argc, argv, name);
  const void* where[] = {&own, initialized, zeroes, words[1], (void*)(uintptr_t)add};
  char** blocks = malloc(100 * sizeof *blocks);
  for (int i = 0; i < 100; ++i) blocks[i] = NULL;
  conform_ready();
  while (conform_next()) {
    long operation = operations[conform.round % 2](conform.round, 3);
    CHECK(seen(operation) == (conform.round % 2 ? conform.round * 3 : conform.round + 3),
          "a call through a table of functions");
    CHECK(where[0] == &own && where[1] == initialized && where[2] == zeroes &&
              where[3] == words[1] && where[4] == (void*)(uintptr_t)add,
          "an address changed");
    CHECK(own == 5 + conform.round - 1, "a thread variable");
    ++own;
    CHECK(initialized[conform.round % 1000] ==
                  (conform.round % 1000 < 3 ? (long)conform.round % 1000 + 1 : 0) ||
              conform.round > 999,
          "data");
    zeroes[conform.round * 97 % 100000] += 1;
    // The library's own state: the allocator, stdio, string functions chosen by CPU.
    for (int i = 0; i < 100; ++i) {
      if (blocks[i]) CHECK(filled(blocks[i], (size_t)(i + 1) * 50, (uint64_t)i), "block %d", i);
      if ((i + conform.round) % 3 == 0) {
        free(blocks[i]);
        blocks[i] = malloc((size_t)(i + 1) * 50);
        fill(blocks[i], (size_t)(i + 1) * 50, (uint64_t)i);
      }
    }
    char text[300];
    memset(text, 'a', sizeof text);
    text[conform.round % 299] = 0;
    CHECK(strlen(text) == (size_t)conform.round % 299, "strlen");
    printf("%s %ld %.3f\n", words[conform.round % 3], own, conform.round / 7.0);
  }
  long sum = 0;
  for (int i = 0; i < 100000; ++i) sum += zeroes[i];
  CHECK(sum == conform.rounds, "bss");
  return conform_end();
}
