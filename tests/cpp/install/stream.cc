// Exact class-incremental learning from C++: rows arrive in phases that bring new classes, no row is kept, and the
// weights are those of one fit on everything.
//
// usage: stream_cpp MODEL PREDICTIONS     writes the model and the predicted labels of the test rows
#include <gramian/gramian.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <variant>
#include <vector>

#include "stream_data.h"

namespace {

struct Rows {
  std::vector<double> x;
  std::vector<std::int64_t> labels;
  gramian::RowsView view() const {
    const auto rows = static_cast<std::int64_t>(labels.size());
    return gramian::RowsView::dense(gramian::MatrixView<const double>(x.data(), rows, kInputs));
  }
};

Rows rows_of_stream(std::int64_t begin, std::int64_t count) {
  Rows rows;
  for (std::int64_t r = begin; r < begin + count; ++r) {
    rows.labels.push_back(stream_label(r));
    for (std::int64_t c = 0; c < kInputs; ++c) rows.x.push_back(stream_value(r, c));
  }
  return rows;
}

gramian::AnalyticClassifier new_classifier() {
  gramian::RandomFeaturesConfig map;
  map.n_inputs = kInputs;
  map.n_features = kFeatures;
  map.seed = kSeed;
  gramian::RidgeConfig config;
  config.ridge = kRidge;
  const gramian::Exec exec(gramian::Device::cpu);
  return gramian::AnalyticClassifier(exec, kInputs, config, gramian::make_random_features(map));
}

std::vector<std::int64_t> predicted_labels(const gramian::AnalyticClassifier& model, const Rows& rows) {
  std::vector<std::int64_t> labels(rows.labels.size());
  model.predict(rows.view(), labels.data());
  const auto& classes = std::get<std::vector<std::int64_t>>(model.classes().values);
  for (std::int64_t& label : labels) label = classes[static_cast<std::size_t>(label)];
  return labels;
}

// The weights, classes x features, in host memory.
std::vector<double> weights_of(const gramian::AnalyticClassifier& model) {
  const auto& coef = model.head().solution().coef;
  return std::vector<double>(coef.data(), coef.data() + coef.size());
}

double relative_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

bool check(bool holds, const char* what) {
  std::printf("%-62s %s\n", what, holds ? "yes" : "NO");
  return holds;
}

int run(const std::string& model_path, const std::string& predictions_path) {
  gramian::AnalyticClassifier streamed = new_classifier();
  for (int phase = 0; phase < kPhases; ++phase) {
    const Rows rows = rows_of_stream(phase * kRowsPerPhase, kRowsPerPhase);
    streamed.partial_fit(rows.view(), rows.labels.data());
    std::printf("phase %d: %d classes\n", phase + 1, static_cast<int>(streamed.classes().size()));
  }

  gramian::AnalyticClassifier joint = new_classifier();
  const Rows all = rows_of_stream(0, kRows);
  joint.partial_fit(all.view(), all.labels.data());
  const std::vector<double> weights = weights_of(streamed);
  const double difference = relative_difference(weights, weights_of(joint));

  const Rows test = rows_of_stream(kRows, kTestRows);
  const std::vector<std::int64_t> predictions = predicted_labels(streamed, test);
  int right = 0;
  for (std::size_t r = 0; r < predictions.size(); ++r) right += predictions[r] == test.labels[r];

  // Forgetting a phase is the same as never having seen it.
  gramian::AnalyticClassifier first_four = new_classifier();
  const Rows before = rows_of_stream(0, kRows - kRowsPerPhase);
  first_four.partial_fit(before.view(), before.labels.data());
  const Rows last = rows_of_stream(kRows - kRowsPerPhase, kRowsPerPhase);
  joint.forget(last.view(), last.labels.data());
  const double forgotten = relative_difference(weights_of(joint), weights_of(first_four));

  streamed.save(model_path);
  const auto loaded = gramian::AnalyticClassifier::load(gramian::Exec(gramian::Device::cpu), model_path);
  std::ofstream file(predictions_path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(predictions.data()),
             static_cast<std::streamsize>(predictions.size() * sizeof(std::int64_t)));
  file.close();

  double squares = 0;
  for (double weight : weights) squares += weight * weight;
  std::printf("gramian %s: squares of the weights sum to %.12g, %d of %d test rows right\n", gramian::version(),
              squares, right, static_cast<int>(kTestRows));
  std::printf("relative difference: to one fit on all rows %.2g, after forgetting a phase %.2g\n", difference,
              forgotten);
  bool good = check(streamed.classes().size() == kClasses, "all classes were found");
  good &= check(difference <= 1e-10, "phases and one fit on all rows agree to 1e-10");
  good &= check(joint.classes().size() == kClasses - 2, "forgetting the last rows of a class takes it out");
  good &= check(forgotten <= 1e-10, "forgetting a phase agrees with never having seen it to 1e-10");
  good &= check(right >= kTestRows * 9 / 10, "nine of ten test rows are right");
  good &= check(predicted_labels(loaded, test) == predictions, "the reloaded model predicts the same");
  good &= check(file.good(), "the predictions were written");
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL PREDICTIONS\n", argv[0]);
    return 2;
  }
  try {
    return run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
