#include "lieq/pipeline/calibration_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "lieq/base/hash.h"
#include "lieq/container/special_tokens.h"
#include "lieq/model/decoder.h"
#include "lieq/model/sampling.h"
#include "lieq/pipeline/mixed_text.h"

namespace lieq {
namespace {

/// Windows that are drawn side by side: by the memory of their cache, 1 GiB. Of shapes alone, since
/// rounding, and with it the text, may depend on it.
Index SideBySide(const ModelConfig& config, Index length) {
  constexpr Index kCacheFloats = Index{1} << 28, kMost = 64;
  const Index each = config.layers * length * (config.Out(Site::kK) + config.Out(Site::kV));
  return std::clamp<Index>(kCacheFloats / each, 1, kMost);
}

/// Fills windows [count, length] behind their first tokens; the first has stream `stream`.
void Draw(const Weights& weights, Index vocab, std::uint64_t seed, Index stream,
          View<TokenId, 2> windows, Stage& stage, Session& session) {
  Decoder decoder(weights, session.device(), windows.rows(), windows.cols());
  std::vector<Sampler> samplers;
  for (Index w = 0; w < windows.rows(); ++w) {
    samplers.emplace_back(SamplingOptions{.temperature = 1}, seed,
                          static_cast<std::uint64_t>(stream + w));
  }
  for (Index at = 1; at < windows.cols(); ++at) {
    session.context().ThrowIfStopped();
    const View<const float, 2> logits = decoder.Append(windows.Cols(at - 1, 1));
    session.pool().ParallelFor(windows.rows(), [&](Index w, int) {
      windows(w, at) = samplers[Size(w)].Next(logits.Row(w).first(Size(vocab)));
    });
    stage.Done();
  }
}

}  // namespace

bool CalibratesOnItself(const QuantizeRequest& request) {
  return std::ranges::find(request.calibration.files, "self") != request.calibration.files.end();
}

TokenId FirstToken(const ModelFolder& model, const Tokenizer& tokenizer) {
  if (!tokenizer.Prefix().empty()) return tokenizer.Prefix().front();
  const std::optional<TokenId> begin = BeginToken(model);
  if (begin) return *begin;
  throw Error({.what = "the model names no token that a text begins with",
               .where = model.path.string(),
               .expected = "bos_token_id or eos_token_id in config.json"});
}

namespace {

Index CalibrationLength(const QuantizeRequest& request) {
  return request.calibration.context.value_or(kDefaultContext);
}

Index MostCalibrationWindows(const QuantizeRequest& request) {
  constexpr Index kAll = Index{1} << 24;
  return request.calibration.samples.value_or(request.calibration.all ? kAll : kDefaultSamples);
}

Windows CutCalibration(const QuantizeRequest& request, const EncodedText& text) {
  if (!request.calibration.single_chats) {
    return CutWindows(text.ids, CalibrationLength(request), MostCalibrationWindows(request),
                      text.where);
  }
  return CutChats(text.ids, text.chats, CalibrationLength(request), MostCalibrationWindows(request),
                  text.where);
}

/// What one chat a window cannot do. Throws.
void CheckSingleChats(const QuantizeRequest& request, const ModelConfig& config) {
  if (CalibratesOnItself(request)) {
    throw UsageError("--chat-windows single: --calibration self is no chats");
  }
  if (!config.HasExperts()) return;
  throw Error({.what = "one chat a window is not there for mixtures of experts",
               .where = "--chat-windows",
               .expected = "packed",
               .found = "single"});
}

void RequireChats(const EncodedText& text) {
  if (!text.chats.empty()) return;
  throw Error({.what = "one chat a window, of a text that is no chats",
               .where = text.where,
               .expected = "rows of messages, or --chat-fields, in every file",
               .hint = "leave --chat-windows single out"});
}

/// Of files behind the last window.
void WarnOfUnusedFiles(const QuantizeRequest& request, const EncodedText& text,
                       const Windows& windows, const Log& log) {
  if (!request.calibration.weights.empty()) return;  // MixTexts notes what each gave
  auto end = static_cast<Index>(text.ids.size());
  if (!request.calibration.single_chats) {
    end = windows.count * windows.length;
  } else if (windows.count < static_cast<Index>(text.chats.size())) {
    end = text.chats[Size(windows.count)];
  }
  for (const TextPart& part : text.parts) {
    if (part.begin < end) continue;
    const char* hint = "";
    if (windows.count == MostCalibrationWindows(request)) {
      hint = request.calibration.trains
                 ? " (--samples says how many)"
                 : " (--samples says how many; FILE:WEIGHT gives each file a share)";
    }
    log.Warning(fmt::format("{}: none of it is used, the last of {} windows ends before it{}",
                            text.names[part.text], windows.count, hint));
  }
}

/// Text of one chat a window, with a note of what that comes to.
EncodedText NotedChats(const QuantizeRequest& request, EncodedText text, const Log& log) {
  const Windows windows = CutCalibration(request, text);
  const std::string note = fmt::format(
      "{}: one chat a window, {} of {} chats; windows are {} tokens long and {:.0f} % full; {} "
      "chats are longer and cut",
      text.where, windows.count, text.chats.size(), windows.length,
      100.0 * static_cast<double>(windows.tokens_held) /
          static_cast<double>(windows.count * windows.length),
      windows.cut);
  log.Info(note);
  text.notes.push_back(note);
  return text;
}

}  // namespace

EncodedText CalibrationText(const QuantizeRequest& request, const ModelFolder& model,
                            Session& session) {
  const Tokenizer tokenizer = OpenTokenizer(model, session.log());
  const bool single = request.calibration.single_chats;
  if (single) CheckSingleChats(request, model.weights.config);
  if (!request.calibration.weights.empty() && !CalibratesOnItself(request)) {
    std::vector<EncodedText> texts;
    for (const std::filesystem::path& file : request.calibration.files) {
      texts.push_back(EncodeFiles(tokenizer, {&file, 1}, request.reading, model, session.log()));
      if (single) RequireChats(texts.back());
    }
    EncodedText mixed =
        MixTexts(texts, request.calibration.weights, CalibrationLength(request), single);
    return single ? NotedChats(request, std::move(mixed), session.log()) : mixed;
  }
  if (!CalibratesOnItself(request)) {
    EncodedText text =
        EncodeFiles(tokenizer, request.calibration.files, request.reading, model, session.log());
    if (!single) return text;
    RequireChats(text);
    return NotedChats(request, std::move(text), session.log());
  }
  if (request.calibration.files.size() > 1 || !request.reading.fields.empty() ||
      !request.reading.turns.empty()) {
    throw UsageError(
        "--calibration self stands alone, without files, --text-field or "
        "--chat-fields (a file of that name is ./self)");
  }
  const ModelConfig& config = model.weights.config;
  const Index length = CalibrationLength(request);
  const Index count = request.calibration.samples.value_or(kDefaultSamples);
  const Index batch = SideBySide(config, length);
  Matrix<TokenId> windows(count, length);
  if (request.dry_run) {  // as many tokens, whichever they will be
    return {.ids = std::vector<TokenId>(Size(windows.size())), .hash = {}, .names = {"self"}};
  }
  Stage stage(session.context().progress, "writing the calibration text", "step",
              CeilDiv(count, batch) * (length - 1));
  for (Index w = 0; w < count; ++w) windows(w, 0) = FirstToken(model, tokenizer);
  for (Index w = 0; w < count; w += batch) {
    Draw(model.weights, tokenizer.vocab(), request.seed, w,
         windows.view().Rows(w, std::min(batch, count - w)), stage, session);
  }
  EncodedText text;
  text.ids.assign(windows.data(), windows.data() + windows.size());
  text.hash = Hasher().Add(std::as_bytes(std::span(text.ids))).Hex();
  text.names = {"self"};
  text.where = "the text that the model wrote";
  return text;
}

Windows CalibrationWindows(const QuantizeRequest& request, const EncodedText& text,
                           const ModelConfig& config, const Log& log) {
  const Index wanted = MostCalibrationWindows(request);
  Windows windows = CutCalibration(request, text);
  if (!request.calibration.trains) JudgeCalibration(text, windows.tokens_held, config, log);
  if (request.calibration.samples && windows.count < wanted) {
    log.Warning(fmt::format("{}: {} windows of {} tokens, fewer than --samples {}", text.where,
                            windows.count, windows.length, wanted));
  }
  WarnOfUnusedFiles(request, text, windows, log);
  return windows;
}

}  // namespace lieq
