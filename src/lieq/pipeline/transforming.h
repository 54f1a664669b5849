// Transformed models of commands: a float folder with the source's values folded (transform/).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/pipeline/session.h"
#include "lieq/text/windows.h"
#include "lieq/transform/transforms.h"

namespace lieq {

/// The rows named, and that of the method.
[[nodiscard]] TransformList TransformsOf(std::vector<std::string> names, std::string_view method);
/// The names in "none" or "rotate+awq". Throws Error where one is no row.
[[nodiscard]] std::vector<std::string> TransformSet(const std::string& text);
/// ["fuse", "rotate"]
[[nodiscard]] Record NamesOf(const TransformList& rows);

struct TransformedModel {
  ModelFolder model;  // called by the source's path
  Record record;      // what was applied, and what was chosen by which errors (docs/records.md)
};

/// Makes the transformed model in `folder`, or takes what an earlier start finished there: the
/// caller sees to it that it was of the same settings. grids: that the linears will have.
/// windows: may be empty where no row needs calibration.
[[nodiscard]] TransformedModel TransformModel(const ModelFolder& source, const TransformList& rows,
                                              std::uint64_t seed, Clip clip,
                                              const LayerGrids& grids, const Windows& windows,
                                              const std::filesystem::path& folder,
                                              Session& session);

/// Bytes that the folder of a transformed model takes.
[[nodiscard]] std::int64_t TransformedBytes(const ModelConfig& config) noexcept;

}  // namespace lieq
