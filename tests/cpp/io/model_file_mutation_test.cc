// Damaged files, thousands of them and the same in every run: each is read in full or refused as Error{file_format},
// never more. Run it under the address and undefined-behaviour sanitizers to see reads beyond the bytes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gramian/core/error.hpp"
#include "gramian/io/model_file.hpp"

namespace {

using gramian::Error;
using gramian::ErrorCode;
using gramian::Json;
using gramian::ModelReader;
using gramian::ModelWriter;
using gramian::TensorType;
using gramian::TensorView;
using Bytes = std::vector<std::uint8_t>;

std::vector<Bytes> valid_files() {
  static const std::vector<double> numbers(300, 1.25);
  std::vector<Bytes> files;
  files.push_back(ModelWriter("bare", Json()).bytes());
  Json config;
  config["ridge"] = 0.1;
  config["classes"].push_back("a\"b");
  config["classes"].push_back(-17);
  config["map"]["kind"] = "gaussian";
  ModelWriter small("analytic_classifier", config);
  small.add("w", TensorType::f64, {3, 5}, numbers.data());
  small.add("none", TensorType::f32, {0, 7}, nullptr);
  small.add("c", TensorType::i64, {3}, numbers.data());
  small.add("u", TensorType::u8, {5}, numbers.data());
  small.add("s", TensorType::f32, {1, 1, 9}, numbers.data());
  files.push_back(small.bytes());
  ModelWriter many("many", Json::array());
  for (int i = 0; i < 10; ++i) many.add("t" + std::to_string(i), TensorType::f64, {i, 3}, numbers.data());
  files.push_back(many.bytes());
  return files;
}

// Whether the file was taken. Reads every byte of every tensor, so that a wrong bound is seen.
bool read_all(const Bytes& bytes) {
  // A block of exactly this size on the heap, where a sanitizer guards both ends.
  const Bytes exact(bytes.begin(), bytes.end());
  try {
    const ModelReader reader = ModelReader::from_bytes(exact.data(), exact.size());
    static const std::size_t kSizes[] = {4, 8, 8, 1};
    unsigned sum = 0;
    for (const std::string& name : reader.names()) {
      const TensorView view = reader.tensor(name);
      const auto* data = static_cast<const std::uint8_t*>(view.data);
      const std::size_t size = static_cast<std::size_t>(view.size()) * kSizes[static_cast<std::size_t>(view.type)];
      EXPECT_LE(size, exact.size());
      for (std::size_t i = 0; i < size; ++i) sum += data[i];
    }
    const std::string text = reader.config().dump() + reader.model() + reader.library_version();
    return sum + text.size() + 1 > 0;
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ErrorCode::file_format)) << error.what();
    return false;
  }
}

std::size_t header_end(const Bytes& bytes) {
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  return 8 + static_cast<std::size_t>(length);
}

TEST(ModelFileMutation, EveryTruncationIsRefused) {
  for (const Bytes& file : valid_files()) {
    ASSERT_TRUE(read_all(file));
    for (std::size_t size = 0; size < file.size(); ++size) {
      EXPECT_FALSE(read_all(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)))) << size;
    }
    Bytes longer = file;
    longer.push_back(0);
    EXPECT_FALSE(read_all(longer));
  }
}

TEST(ModelFileMutation, EveryHeaderByteChanged) {
  for (const Bytes& file : valid_files()) {
    Bytes changed = file;
    for (std::size_t i = 0; i < header_end(file); ++i) {
      for (const int value : {0x00, 0x20, 0x22, 0x30, 0x39, 0x5c, 0x7d, 0xff, file[i] ^ 1, file[i] ^ 0x80}) {
        changed[i] = static_cast<std::uint8_t>(value);
        read_all(changed);
      }
      changed[i] = file[i];
    }
  }
}

TEST(ModelFileMutation, RandomDamage) {
  std::mt19937 random(20240611);
  const std::vector<Bytes> files = valid_files();
  const std::string tokens = "{}[]\",:0123456789-.e\\u_ ";
  int taken = 0;
  for (int round = 0; round < 20000; ++round) {
    Bytes bytes = files[random() % files.size()];
    const auto changes = 1 + random() % 6;
    for (std::size_t i = 0; i < changes; ++i) {
      // Most of the damage to the header: the data have no wrong values.
      const std::size_t end = random() % 8 == 0 ? bytes.size() : std::min(bytes.size(), header_end(files[0]) * 2);
      const std::size_t pos = end == 0 ? 0 : random() % end;
      const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(pos);
      const auto erased = static_cast<std::ptrdiff_t>(std::min<std::size_t>(random() % 9, bytes.size() - pos));
      switch (bytes.empty() ? 4 : random() % 6) {
        case 0:
          *at = static_cast<std::uint8_t>(random());
          break;
        case 1:
          *at = static_cast<std::uint8_t>(*at ^ (1u << (random() % 8)));
          break;
        case 2:
          *at = static_cast<std::uint8_t>(tokens[random() % tokens.size()]);
          break;
        case 3:
          bytes.erase(at, at + erased);
          break;
        case 4:
          bytes.insert(at, 1 + random() % 8, static_cast<std::uint8_t>(tokens[random() % tokens.size()]));
          break;
        default:
          bytes.resize(random() % (bytes.size() + 1));
          break;
      }
    }
    taken += read_all(bytes) ? 1 : 0;
  }
  // Harmless damage exists (a digit of the configuration, a byte of a tensor); most is not.
  EXPECT_GT(taken, 0);
  EXPECT_LT(taken, 10000);
}

TEST(ModelFileMutation, RandomNumbersInTheTable) {
  // Well-formed headers with hostile numbers: what random bytes seldom reach.
  std::mt19937 random(7);
  const std::vector<std::string> numbers{"0",
                                         "1",
                                         "2",
                                         "8",
                                         "16",
                                         "64",
                                         "-1",
                                         "4294967296",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "18446744073709551615",
                                         "1e3",
                                         "1.5",
                                         "4611686018427387904"};
  const std::vector<std::string> types{"F64", "F32", "I64", "U8", "BF16", ""};
  const auto number = [&] { return numbers[random() % numbers.size()]; };
  int taken = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string header =
        R"({"__metadata__":{"format":"gramian","schema":"1","model":"m","lib_version":"1","config":"{}"})";
    const auto tensors = random() % 3;
    for (std::size_t i = 0; i < tensors; ++i) {
      header += ",\"t" + std::to_string(i) + R"(":{"dtype":")" + types[random() % types.size()] + R"(","shape":[)";
      const auto rank = random() % 3;
      for (std::size_t k = 0; k < rank; ++k) header += (k > 0 ? "," : "") + number();
      header += R"(],"data_offsets":[)" + number() + "," + number() + "]}";
    }
    header += "}";
    while ((header.size() + 8) % 64 != 0) header.push_back(' ');
    Bytes bytes(8);
    const std::uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, sizeof length);
    bytes.insert(bytes.end(), header.begin(), header.end());
    const std::size_t data[] = {0, 1, 2, 8, 16, 64};
    bytes.resize(bytes.size() + data[random() % 6]);
    taken += read_all(bytes) ? 1 : 0;
  }
  EXPECT_GT(taken, 0);
}

}  // namespace
