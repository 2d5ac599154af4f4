#include <string>
#include <utility>
#include <vector>

#include "gramian/core/array.hpp"
#include "gramian/core/error.hpp"
#include "gramian/features/feature_map.hpp"

namespace gramian {

namespace {

class Composition final : public FeatureMap {
 public:
  explicit Composition(std::vector<FeatureMapPtr> maps) : maps_(std::move(maps)) {
    GRAMIAN_REQUIRE(!maps_.empty(), invalid_argument, "a chain of feature maps needs at least one map");
    for (std::size_t k = 0; k + 1 < maps_.size(); ++k) {
      GRAMIAN_REQUIRE(maps_[k]->n_features() == maps_[k + 1]->n_inputs(), shape_mismatch,
                      "feature map " + std::to_string(k) + " makes " + std::to_string(maps_[k]->n_features()) +
                          " features, but the next one expects " + std::to_string(maps_[k + 1]->n_inputs()));
    }
  }

  std::int64_t n_inputs() const override { return maps_.front()->n_inputs(); }
  std::int64_t n_features() const override { return maps_.back()->n_features(); }
  double flops_per_row() const override {
    double total = 0;
    for (const FeatureMapPtr& map : maps_) total += map->flops_per_row();
    return total;
  }

  void transform(const Exec& exec, const RowsView& x, MatrixView<float> out) const override { chain(exec, x, out); }
  void transform(const Exec& exec, const RowsView& x, MatrixView<double> out) const override { chain(exec, x, out); }
  void apply(const Exec& exec, MatrixView<const float> x, MatrixView<float> out) const override { chain(exec, x, out); }
  void apply(const Exec& exec, MatrixView<const double> x, MatrixView<double> out) const override {
    chain(exec, x, out);
  }

  Json save(ModelWriter& writer, const std::string& prefix) const override {
    Json maps = Json::array();
    for (std::size_t k = 0; k < maps_.size(); ++k)
      maps.push_back(maps_[k]->save(writer, prefix + std::to_string(k) + "."));
    Json json = Json::object();
    json["type"] = "composition";
    json["maps"] = std::move(maps);
    return json;
  }

  void release_workspace() const override {
    for (const FeatureMapPtr& map : maps_) map->release_workspace();
  }

 private:
  static void first(const FeatureMap& map, const Exec& exec, const RowsView& x, MatrixView<float> out) {
    map.transform(exec, x, out);
  }
  static void first(const FeatureMap& map, const Exec& exec, const RowsView& x, MatrixView<double> out) {
    map.transform(exec, x, out);
  }
  template <class T>
  static void first(const FeatureMap& map, const Exec& exec, MatrixView<const T> x, MatrixView<T> out) {
    map.apply(exec, x, out);
  }

  template <class X, class T>
  void chain(const Exec& exec, const X& x, MatrixView<T> out) const {
    if (maps_.size() == 1) return first(*maps_.front(), exec, x, out);
    Array<T> now(exec, x.rows, maps_.front()->n_features());
    first(*maps_.front(), exec, x, now.view());
    for (std::size_t k = 1; k + 1 < maps_.size(); ++k) {
      Array<T> next(exec, x.rows, maps_[k]->n_features());
      maps_[k]->apply(exec, now.view(), next.view());
      now = std::move(next);
    }
    maps_.back()->apply(exec, now.view(), out);
  }

  std::vector<FeatureMapPtr> maps_;
};

}  // namespace

FeatureMapPtr make_composition(std::vector<FeatureMapPtr> maps) {
  return std::make_shared<Composition>(std::move(maps));
}

}  // namespace gramian
