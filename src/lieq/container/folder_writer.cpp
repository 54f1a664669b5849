#include "lieq/container/folder_writer.h"

#include <memory>
#include <span>
#include <utility>
#include <variant>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/container/checkpoint_files.h"
#include "lieq/container/named_tensors.h"
#include "lieq/container/narrow.h"
#include "lieq/container/quantization_keys.h"
#include "lieq/container/stacked_experts.h"

namespace lieq {
namespace {

using Packed = std::shared_ptr<const QMatrix>;

/// The tensors of one module or vector, and what writes them.
struct Part {
  std::vector<TensorSpec> specs;
  std::function<void(TensorWriter&)> write;
};

class Parts {
 public:
  Parts(const ModelFolder& source, const PackedForm& form) : source_(source), form_(form) {}

  std::vector<Part> All() {
    for (const NamedTensor& tensor : NamedTensors(source_.weights)) {
      if (form_.stacks_experts && tensor.experts > 0) {
        if (tensor.rows[0] == 0) AddStacked(tensor);
      } else if (std::holds_alternative<const AnyMatrix*>(tensor.values)) {
        Add(tensor.name, tensor.Matrix());
      } else {
        Add(tensor, *std::get<const std::vector<float>*>(tensor.values));
      }
    }
    return std::move(parts_);
  }

 private:
  /// All experts in one tensor of three dimensions. first: the name of the first of them.
  void AddStacked(const NamedTensor& first) {
    Add(SwitchModule(first.name), *std::get<const AnyMatrix*>(first.values));
    for (TensorSpec& spec : parts_.back().specs) {
      spec.shape = {first.experts, spec.shape[0] / first.experts, spec.shape[1]};
    }
  }

  void Add(const std::string& module, AnyMatrix matrix) {
    if (const Packed* packed = std::get_if<Packed>(&matrix)) {
      parts_.push_back(
          {form_.specs(module, **packed), [this, module, codes = *packed](TensorWriter& writer) {
             form_.write(writer, module, *codes);
           }});
      return;
    }
    const std::string name = module + ".weight";
    parts_.push_back({{{name, TypeOf(matrix), {Rows(matrix), Cols(matrix)}}},
                      [this, name, matrix = std::move(matrix)](TensorWriter& writer) {
                        Copy(name, matrix, writer);
                      }});
  }

  void Copy(const std::string& name, const AnyMatrix& matrix, TensorWriter& writer) const {
    std::visit(
        [&](const auto& view) {
          if constexpr (requires { view.Row(0); }) {
            // Row by row: rows of a view may lie apart.
            for (Index row = 0; row < view.rows(); ++row) {
              writer.Write(name, std::as_bytes(view.Row(row)));
            }
          }
        },
        matrix);
    source_.weights.Release(matrix);
  }

  void Add(const NamedTensor& tensor, const std::vector<float>& given) {
    const std::string& name = tensor.name;
    const auto values = std::make_shared<std::vector<float>>(
        AsStored(given, tensor.stored, source_.weights.config));
    const View<const float, 2> view(values->data(), 1, static_cast<Index>(values->size()));
    const bool narrow = source_.dtype != DType::kF32 && HoldsAll(source_.dtype, view);
    const DType type = narrow ? source_.dtype : DType::kF32;
    parts_.push_back(
        {{{name, type, tensor.shape}}, [name, values, view, type](TensorWriter& writer) {
           if (type == DType::kF32) {
             writer.Write(name, std::as_bytes(view.Row(0)));
           } else {
             const auto items = Narrow(name, "value", view, type);
             writer.Write(name, std::as_bytes(std::span(items)));
           }
         }});
  }

  const ModelFolder& source_;
  const PackedForm& form_;
  std::vector<Part> parts_;
};

/// Writes what goes with the weights: the source's tokenizer, generation and licence files
/// (SidecarFiles), or the tokenizer's two files where the source is one file.
void WriteSidecars(const ModelFolder& source, const std::filesystem::path& out) {
  if (std::filesystem::is_directory(source.path)) {
    for (const auto& sidecar : SidecarFiles(source.path)) {
      WriteFileAtomically(out / sidecar.filename(), ReadText(sidecar));
    }
  } else if (!source.tokenizer.empty()) {
    WriteFileAtomically(out / "tokenizer.json", source.tokenizer);
    WriteFileAtomically(out / "tokenizer_config.json", source.tokenizer_config);
  }
}

}  // namespace

Record FloatConfig(const ModelFolder& source) {
  Record config = source.config;
  EraseQuantization(config);
  return config;
}

void WriteModelFolder(const ModelFolder& source, const Record& config, const PackedForm& form,
                      const std::string& format, const std::filesystem::path& out) {
  Parts collected(source, form);  // the parts refer to it
  const std::vector<Part> parts = collected.All();
  std::vector<TensorSpec> specs;
  for (const Part& part : parts) specs.insert(specs.end(), part.specs.begin(), part.specs.end());
  const OutputFiles files = SplitOutput(std::move(specs), {{"format", format}});
  auto part = parts.begin();
  const auto write = [&](TensorWriter& writer, const OutputFiles::File& file) {
    for (std::size_t written = 0; written < file.specs.size(); ++part) {
      part->write(writer);
      written += part->specs.size();
    }
  };
  WriteFolder(source, config, files, format, write, out);
}

void WriteFolder(
    const ModelFolder& source, const Record& config, const OutputFiles& files,
    const std::string& format,
    const std::function<void(TensorWriter& writer, const OutputFiles::File& file)>& write,
    const std::filesystem::path& out) {
  for (const OutputFiles::File& file : files.files) {
    TensorWriter writer(out / file.name, file.specs, {{"format", format}});
    write(writer, file);
    writer.Commit();
  }
  WriteIndex(files, out);
  WriteFileAtomically(out / "config.json", config.dump(2) + "\n");
  WriteSidecars(source, out);
}

}  // namespace lieq
