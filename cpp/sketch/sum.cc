#include "gramian/sketch/sum.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "gramian/core/error.hpp"
#include "gramian/linalg/ops.hpp"
#include "io/file_error.h"
#include "sketch/in_range.h"
#include "sketch/operator_plan.h"

namespace gramian {

namespace {

constexpr const char* kModel = "sketch_sum";
// Blocks are counted in 63 bits less those of kSketchBlock.
constexpr int kHighest = 50;

std::int64_t rows_of_level(int level) {
  return kSketchBlock << level;
}

// The largest aligned power-of-two number of blocks that begins at `block` and stays within `count`.
int level_of(std::int64_t block, std::int64_t count) {
  int level = 0;
  while (level < kHighest && block % (std::int64_t{2} << level) == 0 && std::int64_t{2} << level <= count) ++level;
  return level;
}

template <class T>
constexpr TensorType tensor_type() {
  return sizeof(T) == sizeof(float) ? TensorType::f32 : TensorType::f64;
}

template <class T>
const T* elements(const TensorView& tensor) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return tensor.f32();
  } else {
    return tensor.f64();
  }
}

}  // namespace

template <class T>
SketchSum<T>::SketchSum(const Exec& exec, SketchOp op, std::int64_t cols)
    : device_(exec.uninterrupted()), op_(std::move(op)), cols_(cols) {
  GRAMIAN_REQUIRE(cols >= 1, invalid_argument, "a sketch of at least one column is needed");
}

template <class T>
std::int64_t SketchSum<T>::rows() const {
  std::int64_t total = pending_.count;
  for (const auto& [place, node] : nodes_) total += node.rows;
  return total;
}

template <class T>
std::int64_t SketchSum<T>::bytes() const {
  const auto size = static_cast<std::int64_t>(sizeof(T));
  return (static_cast<std::int64_t>(nodes_.size()) * op_.dist().n_out * cols_ + pending_.rows.size()) * size;
}

template <class T>
Array<T> SketchSum<T>::zeros(const Exec& exec) const {
  Array<T> out(device_, op_.dist().n_out, cols_);
  axpby<T, T>(exec, 0.0, {}, 0.0, out.view());
  return out;
}

template <class T>
Array<T> SketchSum<T>::copy_of(const Exec& exec, const Array<T>& from) const {
  Array<T> out(device_, from.rows(), from.cols());
  axpby<T, T>(exec, 1.0, from.view(), 0.0, out.view());
  return out;
}

template <class T>
void SketchSum<T>::check(const RowsView& x, std::int64_t start) const {
  const SketchDist& dist = op_.dist();
  GRAMIAN_REQUIRE(x.cols == cols_, shape_mismatch,
                  "A has " + std::to_string(x.cols) + " columns, but the sketch has " + std::to_string(cols_));
  GRAMIAN_REQUIRE(start >= 0, invalid_argument, "start must not be negative, got " + std::to_string(start));
  const std::int64_t end = dist.n_in > 0 ? dist.n_in : std::int64_t{1} << 62;
  GRAMIAN_REQUIRE(dist.n_in > 0 || (start <= end && x.rows <= end - start), invalid_argument,
                  "start must be below 2^62 less the number of rows, got " + std::to_string(start));
  GRAMIAN_REQUIRE(start <= end && x.rows <= end - start, shape_mismatch,
                  "rows [" + std::to_string(start) + ", " + std::to_string(start) + " + " + std::to_string(x.rows) +
                      ") are not inside the n_in = " + std::to_string(end) + " rows of the sketch");
}

template <class T>
void SketchSum<T>::update(const Exec& exec, const RowsView& x, std::int64_t start, double weight) {
  check(x, start);
  if (x.rows == 0) return;
  // Whole blocks first: they take the time, and nothing has changed while they are summed.
  const std::int64_t first_block = (start + kSketchBlock - 1) / kSketchBlock;
  const std::int64_t blocks = (start + x.rows) / kSketchBlock - first_block;
  const std::int64_t begin = blocks > 0 ? first_block * kSketchBlock - start : x.rows;
  const std::int64_t end = blocks > 0 ? begin + blocks * kSketchBlock : x.rows;
  const RowsView head = x.slice(0, begin), body = x.slice(begin, end - begin), tail = x.slice(end, x.rows - end);
  check_finite(exec, head);
  check_finite(exec, tail);
  std::vector<std::pair<Place, Node>> whole;
  add_whole_blocks(exec, body, start + begin, weight, whole);
  // From here on only what is small, and without a way out in the middle.
  const Exec steady = exec.uninterrupted();
  add_part(steady, head, start, weight);
  if (pending_.count > 0 && !whole.empty()) flush(steady);
  for (auto& [place, node] : whole) insert(steady, place, std::move(node));
  add_part(steady, tail, start + end, weight);
  finish(steady);
}

template <class T>
void SketchSum<T>::add_whole_blocks(const Exec& exec, const RowsView& x, std::int64_t start, double weight,
                                    std::vector<std::pair<Place, Node>>& out) const {
  const std::int64_t blocks = x.rows / kSketchBlock, first = start / kSketchBlock;
  for (std::int64_t done = 0; done < blocks;) {
    exec.poll();
    const int level = level_of(first + done, blocks - done);
    const RowsView rows = x.slice(done * kSketchBlock, rows_of_level(level));
    Node node;
    node.sum = Array<T>(device_, op_.dist().n_out, cols_);
    node.rows = rows.rows;
    for (const SketchOp::Plan::Part& part : op_.plan_->parts) {
      part.of<T>().node(exec, rows, start + done * kSketchBlock,
                        node.sum.view().block(part.first, 0, part.rows, cols_));
    }
    if (!is_finite<T>(exec, node.sum.view())) check_finite(exec, rows);
    if (weight != 1.0) {
      axpby<T, T>(exec, weight, node.sum.view(), 0.0, node.sum.view());
      if (weight < 0) node.rows = -node.rows;
    }
    out.emplace_back(Place{level, (first + done) >> level}, std::move(node));
    done += std::int64_t{1} << level;
  }
}

// Rows that begin or end within blocks; all of one block or of two neighbours.
template <class T>
void SketchSum<T>::add_part(const Exec& exec, const RowsView& x, std::int64_t start, double weight) {
  if (x.rows == 0) return;
  const std::int64_t inside = std::min(x.rows, kSketchBlock - start % kSketchBlock);
  if (inside < x.rows) {
    add_part(exec, x.slice(0, inside), start, weight);
    add_part(exec, x.slice(inside, x.rows - inside), start + inside, weight);
    return;
  }
  const std::int64_t grain = op_.plan_->parts.front().template of<T>().grain();
  if (weight == 1.0 && grain > 1) {
    wait_with(exec, x, start);
    return;
  }
  flush(exec);
  const Place place{0, start / kSketchBlock};
  Node& node = nodes_[place];
  if (node.sum.rows() == 0) node.sum = zeros(exec);
  // In place where rows follow each other: a copy would cost more than a short piece itself.
  Array<T> apart;
  if (weight != 1.0) apart = zeros(exec);
  const MatrixView<T> target = weight == 1.0 ? node.sum.view() : apart.view();
  for (const SketchOp::Plan::Part& part : op_.plan_->parts) {
    part.of<T>().add(exec, x, start, target.block(part.first, 0, part.rows, cols_));
  }
  if (weight != 1.0) axpby<T, T>(exec, weight, apart.view(), 1.0, node.sum.view());
  node.rows += weight < 0 ? -x.rows : x.rows;
  if (std::abs(node.rows) < kSketchBlock) return;
  Node full = std::move(node);
  nodes_.erase(place);
  insert(exec, place, std::move(full));
}

// Rows of one block, for families that add whole grains: the last, unfinished one is kept until the rest comes.
template <class T>
void SketchSum<T>::wait_with(const Exec& exec, const RowsView& x, std::int64_t start) {
  const std::int64_t grain = op_.plan_->parts.front().template of<T>().grain();
  if (pending_.count > 0 && pending_.start + pending_.count != start) flush(exec);
  if (pending_.rows.rows() == 0) pending_.rows = Array<T>(device_, grain, cols_);
  for (std::int64_t done = 0; done < x.rows;) {
    const std::int64_t at = start + done;
    const std::int64_t count = std::min(x.rows - done, grain - at % grain);
    if (pending_.count == 0) pending_.start = at;
    load_rows<T>(exec, x.slice(done, count), nullptr, nullptr,
                 pending_.rows.view().block(pending_.count, 0, count, cols_), "A");
    pending_.count += count;
    done += count;
    if ((at + count) % grain == 0) flush(exec);
  }
}

namespace {

// Rows in the memory of exec as a view that families read: where they are on the host, else copied there.
template <class T>
RowsView host_rows(const Exec& exec, MatrixView<const T> rows, std::vector<T>& copy) {
  if (exec.device() == Device::cpu) return RowsView::dense<T>(rows);
  copy.resize(static_cast<std::size_t>(rows.rows * rows.cols));
  const MatrixView<T> host(copy.data(), rows.rows, rows.cols);
  download<T>(exec, rows, host);
  return RowsView::dense<T>(host);
}

}  // namespace

template <class T>
void SketchSum<T>::flush(const Exec& exec) {
  if (pending_.count == 0) return;
  const Place place{0, pending_.start / kSketchBlock};
  Node& node = nodes_[place];
  if (node.sum.rows() == 0) node.sum = zeros(exec);
  std::vector<T> copy;
  const RowsView rows = host_rows<T>(exec, pending_.rows.view().block(0, 0, pending_.count, cols_), copy);
  for (const SketchOp::Plan::Part& part : op_.plan_->parts) {
    part.of<T>().add(exec, rows, pending_.start, node.sum.view().block(part.first, 0, part.rows, cols_));
  }
  node.rows += pending_.count;
  pending_.count = 0;
  if (std::abs(node.rows) < kSketchBlock) return;
  Node full = std::move(node);
  nodes_.erase(place);
  insert(exec, place, std::move(full));
}

// Puts a node to its place and, where its neighbour is there and both are whole, the two of them to the place above.
template <class T>
void SketchSum<T>::insert(const Exec& exec, const Place& place, Node node) {
  const auto found = nodes_.find(place);
  if (found != nodes_.end()) {
    axpby<T, T>(exec, 1.0, node.sum.view(), 1.0, found->second.sum.view());
    found->second.rows += node.rows;
    return;
  }
  const Place other{place.first, place.second ^ 1};
  const auto neighbour = nodes_.find(other);
  const std::int64_t whole = rows_of_level(place.first);
  const bool both = neighbour != nodes_.end() && std::abs(node.rows) == whole && node.rows == neighbour->second.rows &&
                    place.first < kHighest;
  if (!both) {
    nodes_.emplace(place, std::move(node));
    return;
  }
  axpby<T, T>(exec, 1.0, neighbour->second.sum.view(), 1.0, node.sum.view());
  node.rows += neighbour->second.rows;
  nodes_.erase(neighbour);
  insert(exec, {place.first + 1, place.second / 2}, std::move(node));
}

template <class T>
void SketchSum<T>::merge(const Exec& exec, const SketchSum& other) {
  GRAMIAN_REQUIRE(
      other.cols_ == cols_, shape_mismatch,
      "the other sketch has " + std::to_string(other.cols_) + " columns, this one has " + std::to_string(cols_));
  GRAMIAN_REQUIRE(other.op_.dist().to_json().dump() == op_.dist().to_json().dump(), invalid_argument,
                  "the other sketch has another distribution: only sketches of one kind, size and seed can be merged");
  std::map<Place, Node> theirs = other.complete(exec);
  const Exec steady = exec.uninterrupted();
  flush(steady);
  for (auto& [place, node] : theirs) {
    if (place.first > 0 || std::abs(node.rows) == kSketchBlock || nodes_.find(place) == nodes_.end()) {
      insert(steady, place, std::move(node));
      continue;
    }
    // Two parts of one block, which may be whole now.
    const auto found = nodes_.find(place);
    Node sum = std::move(found->second);
    nodes_.erase(found);
    axpby<T, T>(steady, 1.0, node.sum.view(), 1.0, sum.sum.view());
    sum.rows += node.rows;
    insert(steady, place, std::move(sum));
  }
  finish(steady);
}

// A copy of the nodes in which nothing waits.
template <class T>
std::map<typename SketchSum<T>::Place, typename SketchSum<T>::Node> SketchSum<T>::complete(const Exec& exec) const {
  SketchSum copy(exec, op_, cols_);
  for (const auto& [place, node] : nodes_) copy.nodes_.emplace(place, Node{copy_of(exec, node.sum), node.rows});
  if (pending_.count > 0) {
    copy.pending_.rows = copy_of(exec, pending_.rows);
    copy.pending_.start = pending_.start;
    copy.pending_.count = pending_.count;
    copy.flush(exec);
  }
  return std::move(copy.nodes_);
}

template <class T>
void SketchSum<T>::result(const Exec& exec, MatrixView<T> out) const {
  GRAMIAN_REQUIRE(out.rows == op_.dist().n_out && out.cols == cols_, shape_mismatch,
                  "the output of a sketch has the wrong shape");
  sum_up(exec, out);
  sketch::require_in_range<T>(is_finite<T>(exec, out), "the sum");
}

// result, whatever its values are.
template <class T>
void SketchSum<T>::sum_up(const Exec& exec, MatrixView<T> out) const {
  std::map<Place, Node> nodes = complete(exec);
  if (nodes.empty()) return axpby<T, T>(exec, 0.0, {}, 0.0, out);
  // Level by level: two neighbours make the sum above them, one alone is that sum.
  while (nodes.size() > 1) {
    Node low = std::move(nodes.begin()->second);
    const Place place = nodes.begin()->first, above{place.first + 1, place.second / 2};
    nodes.erase(nodes.begin());
    const auto neighbour = nodes.find({place.first, place.second ^ 1});
    if (neighbour != nodes.end()) {
      axpby<T, T>(exec, 1.0, neighbour->second.sum.view(), 1.0, low.sum.view());
      nodes.erase(neighbour);
    }
    const auto own = nodes.find(above);
    if (own != nodes.end()) {
      axpby<T, T>(exec, 1.0, low.sum.view(), 1.0, own->second.sum.view());
    } else {
      nodes.emplace(above, std::move(low));
    }
  }
  const MatrixView<const T> sum = nodes.begin()->second.sum.view();
  for (const SketchOp::Plan::Part& part : op_.plan_->parts) {
    axpby<T, T>(exec, part.factor, sum.block(part.first, 0, part.rows, cols_), 0.0,
                out.block(part.first, 0, part.rows, cols_));
  }
}

template <class T>
std::vector<std::uint8_t> SketchSum<T>::save(const Exec& exec) const {
  const std::map<Place, Node> nodes = complete(exec);
  Json config = Json::object();
  config["sketch"] = op_.dist().to_json();
  config["cols"] = cols_;
  config["dtype"] = name_of(dtype_of<T>::value);
  config["nodes"] = Json::array();
  std::vector<std::vector<T>> sums;
  for (const auto& [place, node] : nodes) {
    Json item = Json::array();
    item.push_back(place.first);
    item.push_back(place.second);
    item.push_back(node.rows);
    config["nodes"].push_back(std::move(item));
    sums.emplace_back(static_cast<std::size_t>(node.sum.size()));
    download<T>(exec, node.sum.view(), {sums.back().data(), node.sum.rows(), cols_});
  }
  ModelWriter writer(kModel, std::move(config));
  for (std::size_t k = 0; k < sums.size(); ++k)
    writer.add("node" + std::to_string(k), tensor_type<T>(), {op_.dist().n_out, cols_}, sums[k].data());
  return writer.bytes();
}

template <class T>
SketchSum<T> SketchSum<T>::load(const Exec& exec, const ModelReader& reader) {
  GRAMIAN_REQUIRE(reader.model() == kModel, file_format,
                  "the file holds a '" + reader.model() + "', not a '" + std::string(kModel) + "'");
  return io::reading([&] {
    const Json& config = reader.config();
    GRAMIAN_REQUIRE(config.at("dtype").string() == name_of(dtype_of<T>::value), file_format,
                    "the sums of the file are of type " + config.at("dtype").string());
    SketchSum out(exec, SketchOp(SketchDist::from_json(config.at("sketch"))), config.at("cols").integer());
    std::size_t k = 0;
    for (const Json& item : config.at("nodes").items()) {
      const std::vector<Json>& parts = item.items();
      GRAMIAN_REQUIRE(parts.size() == 3, file_format, "a node of a sketch is not three numbers");
      const std::int64_t level = parts[0].integer(), index = parts[1].integer();
      GRAMIAN_REQUIRE(level >= 0 && level <= kHighest && index >= 0, file_format, "a node of a sketch is out of range");
      const TensorView tensor =
          reader.tensor("node" + std::to_string(k++), tensor_type<T>(), {out.op_.dist().n_out, out.cols_});
      Node node;
      node.sum = Array<T>(out.device_, out.op_.dist().n_out, out.cols_);
      node.rows = parts[2].integer();
      upload<T>(exec, {elements<T>(tensor), out.op_.dist().n_out, out.cols_}, node.sum.view());
      const bool placed = out.nodes_.emplace(Place{static_cast<int>(level), index}, std::move(node)).second;
      GRAMIAN_REQUIRE(placed, file_format, "a node of a sketch is there twice");
    }
    return out;
  });
}

template class GRAMIAN_EXPORT SketchSum<float>;
template class GRAMIAN_EXPORT SketchSum<double>;

}  // namespace gramian
