// Tensors of an open model as arrays of numpy.
#pragma once

#include <pybind11/pybind11.h>

namespace lieq::python {

/// Adds the classes Model and Tensor.
void AddTensors(pybind11::module_& module);

}  // namespace lieq::python
