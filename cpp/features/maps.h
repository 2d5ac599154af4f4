// Readers of the single kinds of maps, for load_feature_map.
#pragma once

#include <string>

#include "gramian/core/error.hpp"
#include "gramian/features/feature_map.hpp"

namespace gramian {

FeatureMapPtr load_random_features(const Json& json);
FeatureMapPtr load_rbf_features(const Json& json, const ModelReader& reader, const std::string& prefix);

}  // namespace gramian
