// lieq._lieq: what the Python package is made on.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/cli/arguments.h"
#include "lieq/cli/commands.h"
#include "lieq/pipeline/version.h"
#include "python/commands.h"
#include "python/tensors.h"

namespace lieq::python {
namespace {

namespace py = pybind11;

/// As os.fsdecode does it: names of files may hold any bytes.
py::str Text(std::string_view text) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeFSDefaultAndSize(text.data(), static_cast<py::ssize_t>(text.size())));
}

/// Raises lieq.Error with the parts of the problem as attributes.
void Raise(const Error& error) {
  const py::object type = py::module_::import("lieq._lieq").attr("Error");
  const py::object raised = type(Text(error.what()));
  const Problem& problem = error.problem();
  raised.attr("what") = Text(problem.what);
  raised.attr("where") = Text(problem.where);
  raised.attr("expected") = Text(problem.expected);
  raised.attr("found") = Text(problem.found);
  raised.attr("hint") = Text(problem.hint);
  PyErr_SetObject(type.ptr(), raised.ptr());
}

void Translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const Error& error) {
    Raise(error);
  } catch (const UsageError& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    PyErr_SetString(PyExc_OSError, error.what());
  }
}

int RunMain(const std::vector<std::string>& words) {
  std::vector<const char*> pointers;
  for (const std::string& word : words) pointers.push_back(word.c_str());
  return RunProgram(static_cast<int>(pointers.size()), pointers.data());
}

}  // namespace
}  // namespace lieq::python

PYBIND11_MODULE(_lieq, module) {
  namespace py = pybind11;
  using namespace lieq::python;
  module.attr("__version__") = lieq::kVersion;
  py::exception<lieq::Error> error(module, "Error");
  error.attr("__module__") = "lieq";
  error.doc() =
      "A wrong input or machine. Attributes: what (the rule that was broken), where (file, tensor, "
      "JSON path or option), expected, found and hint (what to do next); the last three may be ''.";
  py::register_local_exception_translator(&Translate);
  AddTensors(module);
  module.def("commands", &CommandTable);
  module.def("run", &RunCommandLine, py::arg("words"), py::arg("progress"), py::arg("log"));
  module.def("main", &RunMain, py::arg("words"), py::call_guard<py::gil_scoped_release>());
}
