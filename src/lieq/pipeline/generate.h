// Continuing a text with a model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "lieq/model/sampling.h"
#include "lieq/pipeline/session.h"
#include "lieq/text/text_file.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

/// A prompt, as it is or from a file, and how the tokens behind it are chosen.
struct GenerateRequest {
  std::filesystem::path model;
  std::optional<std::string>
      prompt;  // this or the file; the names of special tokens stand for them
  std::filesystem::path prompt_file;
  bool chat = false;                  // the prompt is a user's message, or
  std::filesystem::path messages;     // follows these
  std::optional<std::string> system;  // message
  TextOptions reading;                // of the file
  Index new_tokens = 64;              // at most
  SamplingOptions sampling;
  std::uint64_t seed = 0;
};

struct Generation {
  std::string prompt;  // as UTF-8; of a chat what its template made of it
  Record messages;     // of a chat
  std::vector<TokenId> prompt_ids, ids;
  std::string text;
  std::optional<TokenId> end;  // the end-of-text token that came; none: as many as were asked for
  double prompt_seconds = 0, seconds = 0;  // up to the first logits, and from then on
  Index steps = 0;                         // of the decoder after the prompt

  [[nodiscard]] double TokensPerSecond() const {
    return steps == 0 ? 0 : static_cast<double>(steps) / seconds;
  }
};

/// Ids of a prompt behind the special tokens of the tokenizer's template, unless it begins with
/// them itself, as prompts in a chat template's form do. Never empty.
[[nodiscard]] std::vector<TokenId> EncodePrompt(const std::string& prompt, const ModelFolder& model,
                                                const Tokenizer& tokenizer);

/// Continues the prompt up to the model's end-of-text token. `piece` is given the text as it comes,
/// in whole characters. An empty prompt is the model's BOS or end-of-text token.
///
/// Throws UsageError for a request that contradicts itself, Error for inputs that are wrong,
/// Stopped.
[[nodiscard]] Generation Generate(const GenerateRequest& request, Session& session,
                                  const std::function<void(const std::string&)>& piece = {});

/// Ids of the prompt behind the special tokens of the tokenizer's template, unless it begins with
/// them itself, as prompts in a chat template's form do. Never empty.
[[nodiscard]] std::vector<TokenId> EncodePrompt(const std::string& prompt, const ModelFolder& model,
                                                const Tokenizer& tokenizer);

[[nodiscard]] Record GenerationRecord(const GenerateRequest& request, const Generation& generation,
                                      Session& session);

}  // namespace lieq
