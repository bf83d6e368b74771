// Our own bugs end the process, in production too: restarting is the recovery path we test.
// Bytes from disk or wire are never asserted on.
#pragma once

#include <cstdio>
#include <cstdlib>

#define FARSIDE_ASSERT(condition)                                                            \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      std::fprintf(stderr, "%s:%d: assertion failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
