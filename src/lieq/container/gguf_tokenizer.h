// The tokenizer of a GGUF file: keys from tokenizer.json, and a tokenizer.json from keys.
#pragma once

#include <filesystem>
#include <string>

#include "lieq/container/model_folder.h"
#include "lieq/io/gguf_file.h"

namespace lieq {

/// Adds the tokenizer.* keys of a byte-level BPE tokenizer: tokens in order of id (one for each row
/// of the embedding), their types, merges, special tokens, chat template, and the name by which
/// llama.cpp knows how words are split. Throws Error: no tokenizer, another kind, words split in a
/// way that llama.cpp has no name for, more tokens than the embedding has rows.
void AddTokenizerKeys(const ModelFolder& source, GgufKeyWriter& keys);

/// A tokenizer.json that gives the same tokens, from the keys. Empty where they are not there or
/// not of a kind that is known.
[[nodiscard]] std::string TokenizerFromKeys(const GgufKeys& keys);

/// The tokenizer_config.json to go with it: special tokens and chat template.
[[nodiscard]] std::string TokenizerConfigFromKeys(const GgufKeys& keys);

}  // namespace lieq
