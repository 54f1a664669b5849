// The text that --calibration names: files, the bundled one, or one that the model writes itself.
#pragma once

#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"

namespace lieq {

/// Whether the text is the model's own: --calibration self.
[[nodiscard]] bool CalibratesOnItself(const QuantizeRequest& request);

/// Files and the bundled text as EncodeFiles reads them. For "self" --samples windows of --context
/// tokens drawn from the model at temperature 1, each from its first token (FirstToken) on and by a
/// stream of --seed of its own: the same for any number of threads. Texts end and begin inside
/// windows as the model has it. Throws Error; UsageError where "self" stands beside files or
/// fields.
[[nodiscard]] EncodedText CalibrationText(const QuantizeRequest& request, const ModelFolder& model,
                                          Session& session);

/// Its windows of --context tokens, or of one chat each: --samples of them, by default
/// kDefaultSamples, or as many as the text has. Says what they are worth, and warns where --samples
/// asks for more than there are, and of files that none is taken from.
[[nodiscard]] Windows CalibrationWindows(const QuantizeRequest& request, const EncodedText& text,
                                         const ModelConfig& config, const Log& log);

/// BOS of the tokenizer's template, else what the model's configuration names (BeginToken). Throws
/// Error where there is none.
[[nodiscard]] TokenId FirstToken(const ModelFolder& model, const Tokenizer& tokenizer);

}  // namespace lieq
