// Writes a float model folder: a source's with other values, one layer in memory at a time.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>

#include "lieq/container/model_folder.h"
#include "lieq/model/float_layer.h"

namespace lieq {

/// Linears are written as F32; the embedding, the head, norms and biases in the types that the
/// source has them in. The folder gets config.json and model.safetensors, the latter last and by
/// one rename: where it is there the folder is whole.
class FloatFolderWriter {
 public:
  /// untied: the head is written as a matrix of its own, and config.json says so. source outlives
  /// this. Makes `folder`. Throws Error where it cannot be written, as do the functions below.
  FloatFolderWriter(const ModelFolder& source, bool untied, const std::filesystem::path& folder);

  /// First, once. ends: null where they are the source's.
  void Ends(const FloatEnds* ends);
  /// Layers in order.
  void Layer(Index layer, const FloatLayer& weights);
  void Commit();

 private:
  void Write(const std::string& name, std::span<const float> values);

  const ModelFolder& source_;
  std::map<std::string, TensorSpec> specs_;
  std::optional<TensorWriter> writer_;
};

/// The model in a folder that FloatFolderWriter wrote, called by the source's path: its sidecar
/// files and its name are the source's.
[[nodiscard]] ModelFolder OpenFloatFolder(const std::filesystem::path& folder,
                                          const ModelFolder& source);

}  // namespace lieq
