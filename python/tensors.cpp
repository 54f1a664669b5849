#include "python/tensors.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "lieq/container/model_folder.h"
#include "lieq/container/named_tensors.h"

namespace lieq::python {
namespace {

namespace py = pybind11;

using Packed = std::shared_ptr<const QMatrix>;
template <class T>
using Array = py::array_t<T, py::array::c_style>;

/// A new array of the view's items.
template <class T>
Array<T> Copied(View<const T, 2> view) {
  Array<T> array({view.rows(), view.cols()});
  T* to = array.mutable_data();
  for (Index row = 0; row < view.rows(); ++row, to += view.cols()) {
    std::ranges::copy(view.Row(row), to);
  }
  return array;
}

/// None in place of no array.
template <class T>
std::optional<Array<T>> CopiedIfAny(View<const T, 2> view) {
  if (view.size() == 0) return std::nullopt;
  return Copied(view);
}

/// A matrix or a vector; keeps the model that it is of.
class Tensor {
 public:
  Tensor(std::shared_ptr<const ModelFolder> model, NamedTensor tensor)
      : model_(std::move(model)), values_(tensor.values), name_(std::move(tensor.name)) {
    if (matrix() != nullptr) name_ += ".weight";
  }

  [[nodiscard]] const std::string& name() const noexcept { return name_; }

  [[nodiscard]] py::tuple shape() const {
    if (matrix() != nullptr) return py::make_tuple(Rows(*matrix()), Cols(*matrix()));
    return py::make_tuple(vector().size());
  }

  /// "BF16", "F16" or "F32"; of codes "U2", "U3", "U4" or "U8".
  [[nodiscard]] std::string dtype() const {
    if (packed() != nullptr) return "U" + std::to_string(packed()->grid().bits);
    if (matrix() == nullptr) return std::string(Name(DType::kF32));
    const DType type = std::holds_alternative<View<const float, 2>>(*matrix())  ? DType::kF32
                       : std::holds_alternative<View<const Bf16, 2>>(*matrix()) ? DType::kBF16
                                                                                : DType::kF16;
    return std::string(Name(type));
  }

  [[nodiscard]] std::int64_t stored_bits() const {
    if (packed() != nullptr) return packed()->stored_bits();
    if (matrix() == nullptr) return static_cast<std::int64_t>(vector().size()) * 32;
    const bool wide = std::holds_alternative<View<const float, 2>>(*matrix());
    return Rows(*matrix()) * Cols(*matrix()) * (wide ? 32 : 16);
  }

  [[nodiscard]] std::int64_t bits() const {
    if (packed() != nullptr) return packed()->grid().bits;
    return dtype() == "F32" ? 32 : 16;
  }

  [[nodiscard]] std::optional<py::dict> grid() const {
    if (packed() == nullptr) return std::nullopt;
    const Grid& grid = packed()->grid();
    py::dict said(py::arg("bits") = grid.bits, py::arg("group_size") = packed()->group_columns(),
                  py::arg("offset") = Name(grid.offset));
    said["k_quant"] = grid.k_quant ? py::cast(KQuantOf(grid).name) : py::none();
    said["shared_zero"] = grid.shared_zero();
    return said;
  }

  [[nodiscard]] std::optional<Array<std::uint8_t>> codes() const {
    if (packed() == nullptr) return std::nullopt;
    const QMatrix& matrix = *packed();
    Array<std::uint8_t> array({matrix.rows(), matrix.cols()});
    std::uint8_t* to = array.mutable_data();
    const py::gil_scoped_release others;
    for (Index row = 0; row < matrix.rows(); ++row) {
      matrix.GetRow(row, {to + row * matrix.cols(), Size(matrix.cols())});
    }
    return array;
  }
  [[nodiscard]] std::optional<Array<float>> scales() const {
    if (packed() == nullptr) return std::nullopt;
    return CopiedIfAny(packed()->scales());
  }
  [[nodiscard]] std::optional<Array<std::uint8_t>> zeros() const {
    if (packed() == nullptr) return std::nullopt;
    return CopiedIfAny(packed()->zeros());
  }
  [[nodiscard]] std::optional<Array<float>> minima() const {
    if (packed() == nullptr) return std::nullopt;
    return CopiedIfAny(packed()->minima());
  }

  [[nodiscard]] Array<float> values() const {
    if (matrix() == nullptr) {
      return Array<float>(static_cast<py::ssize_t>(vector().size()), vector().data());
    }
    const Index rows = Rows(*matrix()), cols = Cols(*matrix());
    Array<float> array({rows, cols});
    const View<float, 2> to(array.mutable_data(), rows, cols);
    const py::gil_scoped_release others;
    WidenRows(*matrix(), 0, to);
    model_->weights.Release(*matrix());
    return array;
  }

 private:
  [[nodiscard]] const AnyMatrix* matrix() const noexcept {
    const auto* found = std::get_if<const AnyMatrix*>(&values_);
    return found != nullptr ? *found : nullptr;
  }
  [[nodiscard]] const std::vector<float>& vector() const {
    return *std::get<const std::vector<float>*>(values_);
  }
  /// Null for floats.
  [[nodiscard]] const QMatrix* packed() const noexcept {
    const Packed* found = matrix() != nullptr ? std::get_if<Packed>(matrix()) : nullptr;
    return found != nullptr ? found->get() : nullptr;
  }

  std::shared_ptr<const ModelFolder> model_;
  decltype(NamedTensor::values) values_;
  std::string name_;
};

/// What lieq.Model is made from.
struct OpenedModel {
  std::string config;  // JSON
  bool quantized = false;
  std::vector<Tensor> tensors;
};

OpenedModel Opened(const std::filesystem::path& path) {
  const auto model = std::make_shared<const ModelFolder>(OpenModel(path));
  OpenedModel opened{.config = model->config.dump(), .quantized = model->quantized};
  for (NamedTensor& tensor : NamedTensors(model->weights)) {
    opened.tensors.emplace_back(model, std::move(tensor));
  }
  return opened;
}

}  // namespace

void AddTensors(py::module_& module) {
  py::class_<Tensor>(module, "Tensor", "A matrix [rows, columns] or a vector of a model.")
      .def_property_readonly("name", &Tensor::name, "Its name in Hugging Face's layout.")
      .def_property_readonly("shape", &Tensor::shape, "(rows, columns), or (length,).")
      .def_property_readonly(
          "dtype", &Tensor::dtype,
          "'BF16', 'F16' or 'F32'; of codes 'U2', 'U3', 'U4' or 'U8'. Vectors are "
          "held as 'F32' whatever the file has.")
      .def_property_readonly("bits", &Tensor::bits, "Of a code, or of a float.")
      .def_property_readonly(
          "bytes", [](const Tensor& t) { return CeilDiv(t.stored_bits(), 8); },
          "Of the values, or of codes, scales and offsets together.")
      .def_property_readonly(
          "grid", &Tensor::grid,
          "None for floats, else a dict: 'bits', 'group_size' (columns that share "
          "a scale), 'offset' ('symmetric', 'half', 'integer' or 'float'), "
          "'k_quant' (None, or a name such as 'q2_k') and 'shared_zero' (the zero "
          "of offsets 'symmetric' and 'half', else 0).")
      .def("codes", &Tensor::codes, "uint8 [rows, columns]; None for floats.")
      .def("scales", &Tensor::scales, "float32 [rows, groups]; None for floats.")
      .def("zeros", &Tensor::zeros,
           "uint8 [rows, groups] of offset 'integer', else None: a value is scale * (code - zero).")
      .def(
          "minima", &Tensor::minima,
          "float32 [rows, groups] of offset 'float', else None: a value is scale * code + minimum.")
      .def("values", &Tensor::values,
           "float32 of its shape: what the codes mean; exact for floats.")
      .def("__repr__", [](const Tensor& t) {
        return "<lieq.Tensor '" + t.name() + "' " + py::repr(t.shape()).cast<std::string>() + " " +
               t.dtype() + ">";
      });
  py::class_<OpenedModel>(module, "OpenedModel")
      .def_readonly("config", &OpenedModel::config)
      .def_readonly("quantized", &OpenedModel::quantized)
      .def_readonly("tensors", &OpenedModel::tensors);
  module.def("open", &Opened, py::arg("path"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace lieq::python
