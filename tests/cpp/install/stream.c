/* The same job as stream.cc from C: streams the rows, forgets, saves, and must predict what the C++ program predicted.
 *
 * usage: stream_c MODEL PREDICTIONS     both as written by stream_cpp */
#include <gramian/capi/gramian.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream_capi.h"

static gramian_classifier* new_classifier(void) {
  const gramian_classifier_options options = options_of_stream();
  gramian_classifier* model = NULL;
  must(gramian_classifier_create(kInputs, &options, &model), "create");
  return model;
}

static void fit_phases(gramian_classifier* model, int begin, int end) {
  for (int phase = begin; phase < end; ++phase) {
    const gramian_rows rows = rows_of_stream((int64_t)phase * kRowsPerPhase, kRowsPerPhase);
    must(gramian_classifier_partial_fit(model, &rows, labels, NULL), "partial_fit");
  }
}

/* Does the model predict the expected labels of the test rows? */
static int predicts(gramian_classifier* model, const int64_t* expected) {
  static int64_t predicted[kTestRows];
  const gramian_rows test = rows_of_stream(kRows, kTestRows);
  must(gramian_classifier_predict(model, &test, predicted), "predict");
  return memcmp(predicted, expected, sizeof predicted) == 0;
}

/* The largest difference between the scores of two models on the test rows. */
static double largest_difference(gramian_classifier* one, gramian_classifier* other) {
  static double scores[2][kTestRows * kClasses];
  const gramian_rows test = rows_of_stream(kRows, kTestRows);
  double largest = 0;
  must(gramian_classifier_decision_function(one, &test, scores[0], kTestRows * kClasses), "decision_function");
  must(gramian_classifier_decision_function(other, &test, scores[1], kTestRows * kClasses), "decision_function");
  for (int i = 0; i < kTestRows * kClasses; ++i) {
    const double difference = scores[0][i] > scores[1][i] ? scores[0][i] - scores[1][i] : scores[1][i] - scores[0][i];
    if (difference > largest) largest = difference;
  }
  return largest;
}

static int always(void* user) {
  (void)user;
  return 1;
}

static int check_errors(gramian_classifier* model) {
  gramian_rows rows = rows_of_stream(0, 10);
  gramian_classifier* none = NULL;
  int64_t few[2], classes = 0;
  int good = 1;
  labels[0] = 5;
  good &= check_error(gramian_classifier_forget(model, &rows, labels, NULL), GRAMIAN_ERROR_INVALID,
                      "forgetting a class never seen is refused");
  rows.n_cols = kInputs - 1;
  good &= check_error(gramian_classifier_partial_fit(model, &rows, labels, NULL), GRAMIAN_ERROR_INVALID,
                      "rows of another width are refused");
  rows.n_cols = kInputs;
  values[0] = (double)NAN;
  good &=
      check_error(gramian_classifier_partial_fit(model, &rows, labels, NULL), GRAMIAN_ERROR_INVALID, "NaN is refused");
  rows.element = 99;
  good &= check_error(gramian_classifier_partial_fit(model, &rows, labels, NULL), GRAMIAN_ERROR_DTYPE,
                      "an unknown element type is refused");
  good &= check_error(gramian_classifier_classes(model, few, 2), GRAMIAN_ERROR_INVALID, "a short buffer is refused");
  good &= check_error(gramian_classifier_load("no such file", NULL, &none), GRAMIAN_ERROR_FILE,
                      "a missing file is an error");
  good &= check_error(gramian_classifier_n_classes(NULL, &classes), GRAMIAN_ERROR_INVALID, "null is refused");

  must(gramian_classifier_set_cancel_hook(model, always, NULL), "set_cancel_hook");
  rows = rows_of_stream(0, kRows);
  good &= check_error(gramian_classifier_partial_fit(model, &rows, labels, NULL), GRAMIAN_ERROR_CANCELLED,
                      "the hook cancels");
  must(gramian_classifier_set_cancel_hook(model, NULL, NULL), "set_cancel_hook");
  must(gramian_classifier_n_classes(model, &classes), "n_classes");
  return good & check(classes == kClasses, "refused calls left the classes alone");
}

int main(int argc, char** argv) {
  static int64_t expected[kTestRows];
  int64_t classes[kClasses], counts[kClasses], n_classes = 0, n_inputs = 0;
  size_t needed = 0;
  char text[8];
  gramian_classifier *model, *half, *loaded = NULL, *unfitted;
  gramian_rows last;
  FILE* file;
  int good = 1;

  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL PREDICTIONS\n", argv[0]);
    return 2;
  }
  file = fopen(argv[2], "rb");
  if (!file || fread(expected, sizeof expected[0], kTestRows, file) != kTestRows) {
    fprintf(stderr, "cannot read %s\n", argv[2]);
    return 1;
  }
  fclose(file);
  printf("gramian %s from C\n", gramian_version());

  model = new_classifier();
  fit_phases(model, 0, kPhases);
  must(gramian_classifier_n_classes(model, &n_classes), "n_classes");
  must(gramian_classifier_n_inputs(model, &n_inputs), "n_inputs");
  must(gramian_classifier_classes(model, classes, kClasses), "classes");
  must(gramian_classifier_class_counts(model, counts, kClasses), "class_counts");
  must(gramian_classifier_class_text(model, 1, text, sizeof text, &needed), "class_text");
  good &= check(n_classes == kClasses && n_inputs == kInputs, "sizes");
  good &= check(classes[0] == 100 && classes[kClasses - 1] == 127 && counts[0] > 0, "classes rise");
  good &= check(strcmp(text, "103") == 0 && needed == 4, "labels read as text");
  good &= check(predicts(model, expected), "C and C++ predict the same");

  must(gramian_classifier_load(argv[1], NULL, &loaded), "load");
  good &= check(predicts(loaded, expected), "the C++ program's model predicts the same from C");
  good &= check(largest_difference(model, loaded) <= 1e-12, "and has the same scores");
  gramian_classifier_free(loaded);
  loaded = NULL;

  half = new_classifier();
  unfitted = new_classifier();
  fit_phases(half, 0, 2);
  fit_phases(unfitted, 2, kPhases);
  must(gramian_classifier_merge(half, unfitted), "merge");
  good &= check(largest_difference(half, model) <= 1e-10, "two models merged are the model of all rows");
  last = rows_of_stream(2 * kRowsPerPhase, 3 * kRowsPerPhase);
  must(gramian_classifier_forget(half, &last, labels, NULL), "forget");
  must(gramian_classifier_n_classes(half, &n_classes), "n_classes");
  good &= check(n_classes == 4, "classes without rows are gone");
  gramian_classifier_free(unfitted);

  must(gramian_classifier_save(model, "from_c.safetensors", 1), "save");
  must(gramian_classifier_load("from_c.safetensors", NULL, &loaded), "load");
  good &= check(predicts(loaded, expected), "a file of weights alone predicts the same");
  last = rows_of_stream(0, 10);
  good &= check_error(gramian_classifier_partial_fit(loaded, &last, labels, NULL), GRAMIAN_ERROR_UNSUPPORTED,
                      "and cannot learn");

  unfitted = new_classifier();
  good &= check_error(gramian_classifier_predict(unfitted, &last, labels), GRAMIAN_ERROR_NOT_FITTED,
                      "a model without rows cannot predict");
  good &= check_errors(model);
  good &= check(predicts(model, expected), "errors changed nothing");
  gramian_classifier_free(unfitted);
  gramian_classifier_free(loaded);
  gramian_classifier_free(half);
  gramian_classifier_free(model);
  gramian_classifier_free(NULL);
  return good ? 0 : 1;
}
