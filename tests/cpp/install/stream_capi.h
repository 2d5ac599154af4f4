/* What hosts of the C interface share, in C and in C++: the stream as rows, the model's options, and checks that print.
 */
#ifndef GRAMIAN_TESTS_INSTALL_STREAM_CAPI_H
#define GRAMIAN_TESTS_INSTALL_STREAM_CAPI_H

#include <gramian/capi/gramian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream_data.h"

static double values[kRows * kInputs];
static int64_t labels[kRows];

static inline void must(int result, const char* what) {
  if (result == GRAMIAN_OK) return;
  fprintf(stderr, "%s: result %d: %s\n", what, result, gramian_last_error());
  exit(1);
}

static inline int check(int holds, const char* what) {
  printf("%-62s %s\n", what, holds ? "yes" : "NO");
  return holds;
}

static inline int check_error(int result, int wanted, const char* what) {
  const int right = result == wanted && gramian_last_error()[0] != '\0';
  printf("  [%d] %s\n", result, gramian_last_error());
  return check(right, what);
}

/* Rows of the stream in `values` and `labels`, which later calls write over. */
static inline gramian_rows rows_of_stream(int64_t begin, int64_t count) {
  gramian_rows rows;
  memset(&rows, 0, sizeof rows);
  for (int64_t r = 0; r < count; ++r) {
    labels[r] = stream_label(begin + r);
    for (int64_t c = 0; c < kInputs; ++c) values[r * kInputs + c] = stream_value(begin + r, c);
  }
  rows.struct_size = sizeof rows;
  rows.element = GRAMIAN_FLOAT64;
  rows.data = values;
  rows.n_rows = count;
  rows.n_cols = kInputs;
  return rows;
}

static inline gramian_classifier_options options_of_stream(void) {
  gramian_classifier_options options;
  must(gramian_classifier_options_init(&options, sizeof options), "options");
  options.ridge = kRidge;
  options.map_kind = GRAMIAN_MAP_GAUSSIAN;
  options.map_activation = GRAMIAN_MAP_RELU;
  options.map_features = kFeatures;
  options.map_seed = kSeed;
  return options;
}

#endif
