// A C++ host that is compiled without exceptions and without run-time types: it sees the C interface only, learns the
// stream, and must predict what stream_cpp predicted. What the library throws inside comes out as a result.
//
// usage: no_exceptions MODEL PREDICTIONS     both as written by stream_cpp
#include <gramian/capi/gramian.h>

#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>

#include "stream_capi.h"

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this host must be compiled with -fno-exceptions -fno-rtti"
#endif

namespace {

struct Free {
  void operator()(gramian_classifier* model) const { gramian_classifier_free(model); }
};
using Model = std::unique_ptr<gramian_classifier, Free>;

std::int64_t predicted[kTestRows];
std::int64_t expected[kTestRows];

bool predicts_expected(gramian_classifier* model) {
  const gramian_rows test = rows_of_stream(kRows, kTestRows);
  must(gramian_classifier_predict(model, &test, predicted), "predict");
  for (int i = 0; i < kTestRows; ++i) {
    if (predicted[i] != expected[i]) return false;
  }
  return true;
}

bool check_errors(gramian_classifier* model) {
  bool good = true;
  gramian_rows rows = rows_of_stream(0, 10);
  values[3] = std::numeric_limits<double>::quiet_NaN();
  good &= check_error(gramian_classifier_partial_fit(model, &rows, labels, nullptr), GRAMIAN_ERROR_INVALID,
                      "NaN is refused");
  gramian_classifier* none = nullptr;
  good &= check_error(gramian_classifier_load("no such file", nullptr, &none), GRAMIAN_ERROR_FILE,
                      "a missing file is an error");
  // The sums of so many features cannot be had: the allocation fails inside.
  gramian_classifier_options options = options_of_stream();
  options.map_features = std::int64_t{1} << 28;
  const int created = gramian_classifier_create(kInputs, &options, &none);
  const Model giant(none);
  rows = rows_of_stream(0, 10);
  const int result = created == GRAMIAN_OK ? gramian_classifier_partial_fit(none, &rows, labels, nullptr) : created;
  good &= check_error(result, GRAMIAN_ERROR_MEMORY, "memory that is not there is an error");
  return good;
}

int run(const char* model_path, const char* predictions_path) {
  std::FILE* const file = std::fopen(predictions_path, "rb");
  if (file == nullptr || std::fread(expected, sizeof expected[0], kTestRows, file) != kTestRows) {
    std::fprintf(stderr, "cannot read %s\n", predictions_path);
    return 1;
  }
  std::fclose(file);

  const gramian_classifier_options options = options_of_stream();
  gramian_classifier* made = nullptr;
  must(gramian_classifier_create(kInputs, &options, &made), "create");
  const Model model(made);
  for (int phase = 0; phase < kPhases; ++phase) {
    const gramian_rows rows = rows_of_stream(phase * kRowsPerPhase, kRowsPerPhase);
    must(gramian_classifier_partial_fit(model.get(), &rows, labels, nullptr), "partial_fit");
  }
  must(gramian_classifier_load(model_path, nullptr, &made), "load");
  const Model loaded(made);

  bool good = check(predicts_expected(model.get()), "a host without exceptions predicts the same");
  good &= check(predicts_expected(loaded.get()), "and so does the model that the C++ program saved");
  good &= check_errors(model.get());
  good &= check(predicts_expected(model.get()), "errors changed nothing");
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL PREDICTIONS\n", argv[0]);
    return 2;
  }
  return run(argv[1], argv[2]);
}
