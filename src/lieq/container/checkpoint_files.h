// Which files of a model folder go along when its weights are replaced.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace lieq {

/// True for the name of a file that goes along.
[[nodiscard]] bool IsSidecar(std::string_view name) noexcept;

/// Tokenizer, generation settings, chat template and licence files of `folder`, sorted by name:
/// regular files, symbolic links followed (snapshots of the Hugging Face cache are links to blobs).
/// Never weights, config.json or README.md. Throws Error where the folder cannot be listed.
[[nodiscard]] std::vector<std::filesystem::path> SidecarFiles(const std::filesystem::path& folder);

}  // namespace lieq
