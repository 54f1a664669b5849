// The tokenizer of a GGUF file: keys from tokenizer.json, and a tokenizer.json from keys.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "lieq/base/error.h"
#include "lieq/container/model_folder.h"
#include "lieq/io/gguf_file.h"

namespace lieq {

/// Adds the tokenizer.* keys of a BPE tokenizer: tokens in order of id (one for each row of the
/// embedding), their types, special tokens, chat template; of a byte-level one merges and the name
/// by which llama.cpp knows how words are split, of one over characters scores. Added tokens
/// without a row of the embedding are left out, since llama.cpp wants as many tokens as rows. What
/// differs, for the user, or "". Throws Error: no tokenizer, another kind, words split in a way
/// that llama.cpp has no name for, merges that no scores stand for, more tokens of the tokenizer's
/// own than rows.
[[nodiscard]] std::string AddTokenizerKeys(const ModelFolder& source, GgufKeyWriter& keys);

/// The model's name as it may stand in the file: "phi_3" for "phi3" where the tokenizer is not
/// Phi-3's own, since llama.cpp looks for tokens of that one by the model's name, and loads nothing
/// where they are not there.
[[nodiscard]] std::string NameThatLoads(const std::string& name, const ModelFolder& source);

struct GgufTokenizer {
  std::string json;                // empty where there is a problem
  std::optional<Problem> problem;  // which key is missing, or of a kind that is not read
};

/// A tokenizer.json that gives the same tokens, from the keys.
[[nodiscard]] GgufTokenizer TokenizerFromKeys(const GgufKeys& keys);

/// The tokenizer_config.json to go with it: special tokens and chat template.
[[nodiscard]] std::string TokenizerConfigFromKeys(const GgufKeys& keys);

}  // namespace lieq
