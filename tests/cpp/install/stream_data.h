/* The data of the example: exact in double and made of integers only, so that C, C++ and NumPy see the same bits. */
#ifndef STREAM_DATA_H
#define STREAM_DATA_H

#include <stdint.h>

enum {
  kInputs = 24,
  kFeatures = 160,
  kClasses = 10,
  kPhases = 5,
  kRowsPerPhase = 600,
  kRows = kPhases * kRowsPerPhase,
  kTestRows = 500,
  kSeed = 7
};
static const double kRidge = 0.1;

/* The finaliser of SplitMix64: every 64-bit number has another image. */
static inline uint64_t mixed(uint64_t x) {
  x += UINT64_C(0x9e3779b97f4a7c15);
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

/* One of the 65536 multiples of 2^-15 in [-1, 1). */
static inline double draw(uint64_t row, uint64_t col) {
  return (double)(mixed(row * UINT64_C(0x100000001) + col) >> 48) / 32768.0 - 1.0;
}

/* Phase p brings the classes 2p and 2p + 1; one row in four is of a class seen before. Rows kRows and up, the test
 * rows, are of any class. Labels are 100, 103, 106, ... */
static inline int64_t stream_label(int64_t row) {
  const uint64_t random = mixed((uint64_t)row + (UINT64_C(1) << 40));
  const uint64_t phase = (uint64_t)(row / kRowsPerPhase);
  uint64_t place = random % kClasses;
  if (row < kRows) {
    const uint64_t fresh = 2 * phase + (random >> 8) % 2;
    const int old = phase > 0 && (random >> 16) % 4 == 0;
    place = old ? (random >> 24) % (2 * phase) : fresh;
  }
  return 100 + 3 * (int64_t)place;
}

/* Element col of a row: the centre of its class and noise of the same size. */
static inline double stream_value(int64_t row, int64_t col) {
  const uint64_t centre = UINT64_C(1000000) + (uint64_t)stream_label(row);
  return draw(centre, (uint64_t)col) + draw((uint64_t)row, (uint64_t)col);
}

#endif
