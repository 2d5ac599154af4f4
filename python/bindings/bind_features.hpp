// A feature map as Python holds it. The C++ maps are shared and constant; so is this.
#pragma once

#include "bindings.hpp"
#include "gramian/features/feature_map.hpp"

namespace gramian::python {

struct MapHandle {
  FeatureMapPtr map;
};

// None -> null.
inline FeatureMapPtr map_in(const py::object& handle) {
  return handle.is_none() ? nullptr : handle.cast<const MapHandle&>().map;
}

inline py::object map_out(const FeatureMapPtr& map) {
  return map == nullptr ? py::object(py::none()) : py::cast(MapHandle{map});
}

}  // namespace gramian::python
