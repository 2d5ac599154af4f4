// States in files.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "gram_state_support.h"
#include "gramian/core/error.hpp"

namespace {

using gramian::DType;
using gramian::ErrorCode;
using gramian::GramState;
using gramian::Json;
using gramian::ModelReader;
using testkit::add;
using testkit::bytes_of;
using testkit::cpu;
using testkit::Data;
using testkit::expect_error;
using testkit::File;
using testkit::file_of;
using testkit::loaded;
using testkit::remove;
using testkit::weights_of;
using testkit::with;
using testkit::with_ridge;

TEST(GramState, ALoadedStateIsTheSameState) {
  const Data data(400, 131, 3, 25, 4);
  for (const bool codes : {true, false}) {
    for (const DType products : {DType::f64, DType::f32}) {
      for (const bool intercept : {true, false}) {
        GramState state(cpu(), 131, 3, with(intercept, products));
        EXPECT_EQ(bytes_of(loaded<GramState>(file_of(state))), bytes_of(state));
        add(state, data, 0, 300, codes, true);
        remove(state, data, 0, 10, codes, true);
        GramState copy = loaded<GramState>(file_of(state));
        EXPECT_EQ(bytes_of(copy), bytes_of(state));
        EXPECT_EQ(weights_of(copy.solve(with_ridge(0.1))), weights_of(state.solve(with_ridge(0.1))));
        EXPECT_EQ(copy.solve(with_ridge(0.1)).report.removal_bound, state.solve(with_ridge(0.1)).report.removal_bound);
        add(copy, data, 300, 100, codes, true);
        add(state, data, 300, 100, codes, true);
        EXPECT_EQ(bytes_of(copy), bytes_of(state));
      }
    }
  }
}

TEST(GramFiles, InconsistentDescriptionsAreFileErrors) {
  const Data data(20, 4, 2, 26);
  GramState state(cpu(), 4, 2);
  add(state, data, 0, 20, true);
  const File file = file_of(state);
  const auto refused = [&](const std::string& key, const Json& value) {
    File changed = file;
    changed.description[key] = value;
    SCOPED_TRACE(key + " = " + value.dump());
    expect_error(ErrorCode::file_format, "", [&] { loaded<GramState>(changed); });
  };
  refused("n_features", 5);
  refused("n_features", 0);
  refused("n_features", -4);
  refused("n_features", std::int64_t{1} << 40);
  refused("n_features", "four");
  refused("n_outputs", 3);
  refused("n_outputs", -1);
  refused("products", "float16");
  refused("intercept", 1);
  refused("n_rows", -1);
  refused("n_rows", 5);  // fewer than the classes hold together
  refused("n_rows", 19);
  refused("n_rows", 0);
  refused("weight_sum", -1.0);
  refused("weight_sum", 0.0);  // twenty rows of weight above zero
  refused("weight_sum", "many");
  refused("weighted_rows", -1);
  refused("weighted_rows", 21);
  refused("weighted_rows", "none");
  refused("targets", "labels");
  refused("targets", "none");
  refused("largest_trace", -1.0);
  refused("largest_energy", -1.0);
  refused("longest_sum", -5);
  refused("operations", -5);
  refused("shift_known", "yes");
  for (const auto& [key, value] : file.description.members()) {
    File changed = file;
    Json bare = Json::object();
    for (const auto& [other, kept] : file.description.members())
      if (other != key) bare[other] = kept;
    changed.description = bare;
    if (key == "weighted_rows") {  // files of versions that did not count have none
      EXPECT_EQ(loaded<GramState>(changed).weighted_rows(), -1);
      continue;
    }
    expect_error(ErrorCode::file_format, key, [&] { loaded<GramState>(changed); });
  }
}

TEST(GramFiles, TensorsThatAreNotNumbersAreFileErrors) {
  const Data data(20, 4, 2, 27);
  GramState state(cpu(), 4, 2);
  add(state, data, 0, 20, true);
  const File file = file_of(state);
  const ModelReader reader = ModelReader::from_bytes(file.bytes.data(), file.bytes.size());
  for (const std::string& name : reader.names()) {
    const gramian::TensorView tensor = reader.tensor(name);
    if (tensor.type != gramian::TensorType::f64) continue;
    const auto* begin = reinterpret_cast<const std::uint8_t*>(tensor.data);
    for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
      File changed = file;
      std::memcpy(changed.bytes.data() + (begin - file.bytes.data()), &bad, sizeof bad);
      SCOPED_TRACE(name);
      expect_error(ErrorCode::file_format, "", [&] { loaded<GramState>(changed); });
    }
  }
}

}  // namespace
