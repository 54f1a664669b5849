// Studies: the paper's experiments and the checks of its premise, as a table of rows.
//
// To add one: a function and a row in studies.cpp. A study asks for rows by a key; those of an
// earlier start are taken from FOLDER/study.json, so that it goes on where it stopped.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/stopwatch.h"
#include "lieq/diagnose/diagnosis.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/code_store.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"

namespace lieq {

/// An experiment, the model that it is made with, and what it goes through.
struct StudyRequest {
  std::string name;     // a row of Studies()
  QuantizeRequest run;  // model, output, calibration, grids, quantizer, plan or budget
  std::vector<std::filesystem::path> texts;  // that perplexity is measured on
  Index windows = 8;                         // of each text
  std::vector<Index> lengths{1024};          // tokens in a window
  std::vector<Index> sizes{128};             // windows of calibration
  std::vector<std::string> rankings{"compactness", "energy", "first"};
  Index most = 16;  // layers that are raised
  std::vector<Index> group_sizes{64};
  std::vector<ActOrder> act_orders{ActOrder::kStatic};
  std::vector<std::string> methods{"gptq"};
  std::vector<std::string> transform_sets{"none"};  // each "none" or rows joined by +
};

/// Runs the study into request.run.output, a folder, and gives its record, study.json: rows that an
/// earlier start made are there already. Throws Error, UsageError, and Stopped: what is finished is
/// kept then.
Record StudyModel(const StudyRequest& request, Session& session);

/// A text that is measured on.
struct StudyText {
  std::string name;  // of the file, without folders
  std::vector<TokenId> ids;
};

class StudyBench {
 public:
  /// Reads model and texts and what FOLDER/study.json holds of an earlier start. Throws Error where
  /// that was another study, or of other settings.
  StudyBench(const StudyRequest& request, Session& session);

  const StudyRequest& request;
  Session& session;
  ModelFolder model;
  std::string model_hash;
  std::vector<StudyText> texts;

  /// The row of that key: an earlier one, or made now and saved at once. Pieces are rows: one that
  /// is another's is null.
  const Record& Row(const std::string& key, const std::function<Record()>& make);
  /// The same of a row that follows from others, and is no piece.
  const Record& Derived(const std::string& key, const std::function<Record()>& make);
  [[nodiscard]] const Record& rows() const { return study_.at("rows"); }
  void Flag(std::string_view name, std::string text);
  /// Adds the perplexities of the float model to the record, as its "base". Of a part that another
  /// computes them for: not yet, but with the first row that asks for them.
  void BeginWithBase();
  /// Tells pieces what they depend on.
  void Depend();
  /// What every part needs, as pieces: a share of them computed here, those of others taken over,
  /// and what these have not shown in about the time that the share took computed here too.
  /// keys [n]; make: computes those of these numbers, rising, and gives their values in that order.
  /// Gives all values, [n]. Only where there are pieces.
  [[nodiscard]] std::vector<std::string> ForAll(
      const std::vector<std::string>& keys,
      const std::function<std::vector<std::string>(const std::vector<Index>&)>& make);
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
  [[nodiscard]] EncodedText Calibration() const { return Encode(request.run.calibration.files); }
  [[nodiscard]] Grid LowGrid() const;
  [[nodiscard]] Grid HighGrid() const;

  /// Of this run; null: it is not in pieces.
  [[nodiscard]] WorkPieces* pieces() const noexcept { return pieces_; }

 private:
  /// The perplexities of the float model, made or waited for where they are not there.
  const Record& Base();

  WorkPieces* pieces_;
  Record study_;
  Stopwatch row_;                        // of the row that is made
  std::set<std::string> asked_;          // rows, where they are pieces
  std::map<std::string, bool> is_mine_;  // of these
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
void StudyActivations(StudyBench& bench);
void StudyLayers(StudyBench& bench);
void StudyCalibration(StudyBench& bench);
void StudyBackend(StudyBench& bench);

}  // namespace lieq
