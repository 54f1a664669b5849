// Studies: the paper's experiments and the checks of its premise, as a table of rows.
//
// To add one: a function and a row in studies.cpp. A study asks for rows by a key; those of an
// earlier start are taken from FOLDER/study.json, so that it goes on where it stopped.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/cli/arguments.h"
#include "lieq/cli/command_session.h"
#include "lieq/diagnose/diagnosis.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/code_store.h"
#include "lieq/pipeline/inputs.h"

namespace lieq {

/// A text that is measured on.
struct StudyText {
  std::string name;  // of the file, without folders
  std::vector<TokenId> ids;
};

class StudyBench {
 public:
  /// Reads model and texts and what FOLDER/study.json holds of an earlier start. Throws Error where
  /// that was another study, or of other settings.
  StudyBench(const Arguments& arguments, Session& session);

  const Arguments& arguments;
  Session& session;
  ModelFolder model;
  std::string model_hash;
  std::vector<StudyText> texts;

  /// The row of that key: an earlier one, or made now and saved at once.
  const Record& Row(const std::string& key, const std::function<Record()>& make);
  [[nodiscard]] const Record& rows() const { return study_.at("rows"); }
  void Flag(std::string_view name, std::string text);
  /// Adds the perplexities of the float model to the record, as its "base".
  const Record& Base();
  void Save();
  [[nodiscard]] const Record& record() const noexcept { return study_; }

  [[nodiscard]] EncodedText Encode(std::span<const std::filesystem::path> files) const;
  [[nodiscard]] Windows TextWindows(const StudyText& text, Index length) const;
  /// {text: perplexity} on --windows windows of the first of --lengths.
  [[nodiscard]] Record Perplexities(const Weights& weights);
  /// {text: ln(perplexity / perplexity of the float model)}
  [[nodiscard]] Record Gaps(const Record& perplexities);
  /// Codes for these options and calibration, in FOLDER/codes-NAME; --codes is used for the first.
  /// transformed: what they are of, where that is not the model; outlives them.
  [[nodiscard]] CodeStore Codes(const std::string& name, const QuantOptions& options,
                                const EncodedText* calibration, Index samples, Index context,
                                std::span<const Grid> grids,
                                const ModelFolder* transformed = nullptr);
  [[nodiscard]] EncodedText Calibration() const { return Encode(arguments.run.calibration.files); }
  [[nodiscard]] Grid LowGrid() const;
  [[nodiscard]] Grid HighGrid() const;

 private:
  Record study_;
  std::filesystem::path file_;
  std::optional<Tokenizer> tokenizer_;
};

struct StudyRow {
  std::string_view name;
  std::string_view description;
  void (*run)(StudyBench& bench);
};

[[nodiscard]] std::span<const StudyRow> Studies() noexcept;
/// Throws Error naming the studies there are.
[[nodiscard]] const StudyRow& FindStudy(std::string_view name);

void StudyCorrelation(StudyBench& bench);
void StudyLayers(StudyBench& bench);
void StudyCalibration(StudyBench& bench);
void StudyBackend(StudyBench& bench);

}  // namespace lieq
