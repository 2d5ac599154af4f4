// libFuzzer target for the model reader and the JSON parser. See README.md beside this file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gramian/core/error.hpp"
#include "gramian/io/json.hpp"
#include "gramian/io/model_file.hpp"

namespace {

using gramian::Error;
using gramian::ErrorCode;
using gramian::Json;
using gramian::ModelReader;
using gramian::TensorView;

// Any other error, and any other exception, is a finding.
template <class Action>
void expect_format_errors_only(Action action) {
  try {
    action();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::file_format) std::abort();
  }
}

void read_model(const std::uint8_t* data, std::size_t size) {
  const ModelReader reader = ModelReader::from_bytes(data, size);
  static const std::size_t kSizes[] = {4, 8, 8, 1};
  unsigned sum = 0;
  for (const std::string& name : reader.names()) {
    const TensorView view = reader.tensor(name);
    const auto* bytes = static_cast<const std::uint8_t*>(view.data);
    const std::size_t end = static_cast<std::size_t>(view.size()) * kSizes[static_cast<std::size_t>(view.type)];
    for (std::size_t i = 0; i < end; ++i) sum += bytes[i];
  }
  volatile unsigned sink = sum;  // keeps the reads
  static_cast<void>(sink);
}

// What was read is written as a text that reads back to itself.
void read_json(std::string_view text) {
  const std::string once = Json::parse(text).dump();
  if (Json::parse(once).dump() != once) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  expect_format_errors_only([&] { read_model(data, size); });
  expect_format_errors_only([&] { read_json({reinterpret_cast<const char*>(data), size}); });
  return 0;
}
