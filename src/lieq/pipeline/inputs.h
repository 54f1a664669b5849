// Reading what commands are given: model folders with their tokenizer, and texts as token ids.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/log.h"
#include "lieq/chat/chat_template.h"
#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "lieq/text/text_file.h"
#include "lieq/text/tokenizer.h"
#include "lieq/text/windows.h"

namespace lieq {

inline constexpr Index kDefaultContext = 1024;
inline constexpr Index kDefaultSamples = 128;  // most windows of `quantize` by default
inline constexpr Index kSpectrumWindows = 4;   // of kDefaultContext tokens, for compactness

/// OpenModel, with what it has to say of the model (ModelFolder::notes) in the log.
[[nodiscard]] ModelFolder OpenInput(const std::filesystem::path& path, const Log& log);

/// The tokenizer of a model. It may have tokens that the embedding has no row for, which the log
/// says: only texts that use one are refused.
[[nodiscard]] Tokenizer OpenTokenizer(const ModelFolder& model, const Log& log);

/// The chat template of a model: of its folder, or in its file; none where it has none.
[[nodiscard]] std::optional<ChatTemplate> FindChatTemplate(const ModelFolder& model);
/// The same. Throws Error where it has none.
[[nodiscard]] ChatTemplate OpenChatTemplate(const ModelFolder& model);

/// Throws Error where linears have fewer than 8 bits: what was rounded already is no source to
/// round or to measure on. `hint`: what to do instead. Warns where they have 8.
void RequireSource(const ModelFolder& model, const std::string& hint, const Log& log);

/// XXH3-128 over config.json and the weight files, in order of name. Throws as HashFile.
[[nodiscard]] std::string HashModel(const ModelFolder& model, std::stop_token stop = {});

/// Tokens from `begin` on, to the next part, are of one text.
struct TextPart {
  Index begin = 0;
  std::size_t text = 0;  // among EncodedText::names
};

/// Texts encoded one after another, without special tokens.
struct EncodedText {
  std::vector<TokenId> ids;
  std::vector<std::uint8_t> answer;  // where a file holds chats: 1 for tokens of the assistant
  std::vector<Index> chats;          // the first token of each, where all files hold chats
  std::string hash;                  // of the texts as they are used, line ends treated
  std::vector<std::string> names;  // of the files, without folders; "bundled" for the bundled text
  std::vector<TextPart> parts;     // rising; empty: all of the first text
  std::string where;               // the files as they were given, in messages
  LineEnds line_ends = LineEnds::kLf;
  std::vector<std::string> notes;  // what was changed in the texts or left aside, as in the log
};

/// Logs the notes and gives their lines, for a record.
std::vector<std::string> Say(const std::vector<TextNote>& notes, const Log& log);

/// files: plain text, rows of JSON, or gzip of either (text/text_file.h); empty means the bundled
/// calibration text. Rows of chats become text by the template of `model`. Logs what was changed in
/// them. Throws Error, also for fields where no file has rows.
[[nodiscard]] EncodedText EncodeFiles(const Tokenizer& tokenizer,
                                      std::span<const std::filesystem::path> files,
                                      const TextOptions& options, const ModelFolder& model,
                                      const Log& log);

/// What a record says of a text: files, hash (of the text as it was used), line_ends, and notes
/// where there are any.
[[nodiscard]] Record TextRecord(const EncodedText& text);

/// The windows that spectra are measured on: the first kSpectrumWindows of kDefaultContext tokens,
/// fewer or one shorter one where the text has no more, whatever --context and --samples say, so
/// that every command ranks layers alike. `diagnose` may ask for more windows.
[[nodiscard]] Windows SpectrumWindows(const EncodedText& text, Index windows = kSpectrumWindows);

/// Says what a calibration text is worth: notes the bundled one, warns where there are fewer tokens
/// than eight times the widest input of a linear.
void JudgeCalibration(const EncodedText& text, Index tokens, const ModelConfig& config,
                      const Log& log);

}  // namespace lieq
