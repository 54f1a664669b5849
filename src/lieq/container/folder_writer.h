// Writes a quantized model folder in Hugging Face's layout, in whatever form its container gives
// the packed matrices.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/container/output_files.h"
#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"

namespace lieq {

/// How the tensors of a packed module lie in a container. `module` has no ".weight".
struct PackedForm {
  std::function<std::vector<TensorSpec>(const std::string& module, const QMatrix& matrix)> specs;
  /// Writes them in that order.
  std::function<void(TensorWriter& writer, const std::string& module, const QMatrix& matrix)> write;
  bool stacks_experts = false;  // in tensors of three dimensions, as MLX has them
};

/// WriteFolder of a model whose packed matrices are in memory or mapped. Float matrices keep their
/// type; norms and biases are of the model's own type where it holds every value, else F32.
void WriteModelFolder(const ModelFolder& source, const Record& config, const PackedForm& form,
                      const std::string& format, const std::filesystem::path& out);

/// The one writer of folders in Hugging Face's layout: weight files, their index, config.json and
/// the source's sidecar files, into `out`, which is there. `write` writes all tensors of a file in
/// order. format: "format" of the metadata, as `files` was planned with. Throws Error.
void WriteFolder(
    const ModelFolder& source, const Record& config, const OutputFiles& files,
    const std::string& format,
    const std::function<void(TensorWriter& writer, const OutputFiles::File& file)>& write,
    const std::filesystem::path& out);

/// config.json of the source without what it says of quantization.
[[nodiscard]] Record FloatConfig(const ModelFolder& source);

}  // namespace lieq
