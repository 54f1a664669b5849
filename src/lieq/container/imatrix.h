// Importance matrices as llama.cpp's llama-quantize reads them (--imatrix).
//
// Sources: common/imatrix-loader.cpp and tools/imatrix/imatrix.cpp of llama.cpp; docs/formats.md.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lieq/diagnose/importance.h"
#include "lieq/model/config.h"

namespace lieq {

/// What the file says of the text that was measured on.
struct ImatrixText {
  std::vector<std::string> files;  // names without folders
  Index windows = 0;               // "chunks"
  Index length = 0;                // tokens in one
};

/// Writes an entry for each linear, by its name in GGUF files, in order of name: those of a unit
/// are alike. A path that ends in ".gguf" gets the GGUF form, with sums and counts, any other the
/// older binary one, with means times the number of windows; both in float32. Throws Error where
/// the disk refuses; then nothing is left under `path`.
void WriteImatrix(const Importance& importance, const ModelConfig& config, const ImatrixText& text,
                  const std::filesystem::path& path);

}  // namespace lieq
