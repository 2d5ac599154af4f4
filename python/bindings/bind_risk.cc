#include <limits>
#include <memory>

#include "array_in.hpp"
#include "array_out.hpp"
#include "bindings.hpp"
#include "gramian/analytic/risk_curve.hpp"

namespace gramian::python {
namespace {

std::unique_ptr<PilotSpectrum> pilot_of_features(const py::object& features, const py::object& y, double scale,
                                                 bool centred, double noise, const std::string& device, int threads) {
  const RowsIn rows(features, "X");
  const RowsIn targets(y, "y");
  std::unique_ptr<PilotSpectrum> out;
  without_gil([&] {
    out = std::make_unique<PilotSpectrum>(
        PilotSpectrum::of_features(make_exec(device, threads), rows.view(), targets.view(), scale, centred, noise));
  });
  return out;
}

std::unique_ptr<PilotSpectrum> pilot_of_kernel(const py::object& kernel, const py::object& y, bool centred,
                                               double noise, const std::string& device, int threads) {
  const RowsIn rows(kernel, "kernel");
  const RowsIn targets(y, "y");
  std::unique_ptr<PilotSpectrum> out;
  without_gil([&] {
    out = std::make_unique<PilotSpectrum>(
        PilotSpectrum::of_kernel(make_exec(device, threads), rows.view(), targets.view(), centred, noise));
  });
  return out;
}

py::dict point_out(const RiskPoint& point, bool beyond) {
  py::dict out;
  out["test"] = point.test;
  out["train"] = point.train;
  out["ridge"] = point.ridge;
  out["g"] = point.g;
  out["kappa"] = point.kappa;
  out["learnt"] = point.z;
  out["extrapolated"] = beyond;
  return out;
}

py::dict predict(const SpectralCurve& self, double n, double k, double ridge) {
  RiskPoint point;
  without_gil([&] { point = predict_risk(self, n, k, ridge); });
  return point_out(point, point.g < self.least_g());
}

py::dict predict_best(const SpectralCurve& self, double n, double k) {
  RiskPoint point;
  without_gil([&] { point = predict_best_risk(self, n, k); });
  return point_out(point, point.g < self.least_g());
}

py::tuple at(const SpectralCurve& self, double g) {
  const SpectralValues v = self.at(g);
  return py::make_tuple(v.z, v.z_slope, v.a, v.a_slope);
}

using Numbers = std::vector<double>;

ModeSpectrum modes_of_parts(const py::tuple& parts) {
  if (parts.size() != 3) throw py::value_error("not the parts of a ModeSpectrum");
  return ModeSpectrum(parts[0].cast<Numbers>(), parts[1].cast<Numbers>(), parts[2].cast<double>());
}

py::tuple parts_of_pilot(const PilotSpectrum& self) {
  const PilotParts& p = self.parts();
  return py::make_tuple(p.values, p.energies, p.width, p.centred, p.noise, p.log_g, p.ratios);
}

PilotSpectrum pilot_of_parts(const py::tuple& parts) {
  if (parts.size() != 7) throw py::value_error("not the parts of a PilotSpectrum");
  return PilotSpectrum(PilotParts{parts[0].cast<Numbers>(), parts[1].cast<Numbers>(), parts[2].cast<double>(),
                                  parts[3].cast<bool>(), parts[4].cast<double>(), parts[5].cast<Numbers>(),
                                  parts[6].cast<Numbers>()});
}

}  // namespace

void bind_risk(py::module_& module) {
  py::class_<SpectralCurve>(module, "SpectralCurve")
      .def_property_readonly("energy", &SpectralCurve::energy)
      .def("at", &at, py::arg("g"))
      .def("predict", &predict, py::arg("n"), py::arg("k"), py::arg("ridge"))
      .def("predict_best", &predict_best, py::arg("n"), py::arg("k"));
  py::class_<ModeSpectrum, SpectralCurve>(module, "ModeSpectrum")
      .def(py::init<std::vector<double>, std::vector<double>, double>(), py::arg("eigenvalues"), py::arg("energies"),
           py::arg("noise"))
      .def(py::pickle(
          [](const ModeSpectrum& self) { return py::make_tuple(self.eigenvalues(), self.energies(), self.noise()); },
          &modes_of_parts));
  py::class_<PilotSpectrum, SpectralCurve>(module, "PilotSpectrum")
      .def_static("of_features", &pilot_of_features, py::arg("features"), py::arg("y"), py::arg("scale"),
                  py::arg("centred"), py::arg("noise"), py::arg("device"), py::arg("threads"))
      .def_static("of_kernel", &pilot_of_kernel, py::arg("kernel"), py::arg("y"), py::arg("centred"), py::arg("noise"),
                  py::arg("device"), py::arg("threads"))
      .def(py::pickle(&parts_of_pilot, &pilot_of_parts))
      .def_property_readonly("tail", [](const PilotSpectrum& self) {
        const SpectralTail& tail = self.tail();
        py::dict out;
        out["g"] = tail.g;
        out["learnt"] = tail.z;
        out["left"] = tail.a;
        out["decay"] = tail.decay;
        out["noise"] = tail.noise;
        out["rate"] = tail.rate;
        return out;
      });
}

}  // namespace gramian::python
