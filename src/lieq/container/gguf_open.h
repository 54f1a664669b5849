// GGUF files as models.
#pragma once

#include <filesystem>

#include "lieq/container/model_folder.h"

namespace lieq {

/// Whether a file is GGUF by its first bytes or its name.
[[nodiscard]] bool IsGguf(const std::filesystem::path& path);

/// The model of one file, as OpenModel gives it: configuration and tokenizer from its keys, rows of
/// queries and keys in our order, packed tensors as matrices on the grid of their type, floats as
/// they are. Throws Error: whatever ParseGguf refuses, an architecture or type that is not read (by
/// its name), keys or tensors that are missing, of another shape, or left over.
[[nodiscard]] ModelFolder OpenGguf(const std::filesystem::path& path);

}  // namespace lieq
