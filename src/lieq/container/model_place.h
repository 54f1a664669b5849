// Whether a path is that of a model, and what it is instead.
#pragma once

#include <filesystem>

namespace lieq {

/// Throws Error unless there is a folder with config.json and weights of its own: no such folder
/// (for a hub name: how to download it), the root of a hub cache (which snapshot to take), a folder
/// of GGUF files or of models (which to give), an adapter (how to merge it), other layouts.
void RequireModelFolder(const std::filesystem::path& folder);

/// Whether an adapter lies beside the weights, which is not applied.
[[nodiscard]] bool HasAdapter(const std::filesystem::path& folder);

}  // namespace lieq
