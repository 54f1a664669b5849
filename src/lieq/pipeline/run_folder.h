// OUT.run: where a quantization run keeps its finished layers until the model is complete.
//
//   lock             held while a process works here; holds its process id
//   settings.json    what the run was told; the same command must say the same
//   plan.json        once it is made
//   seconds.json     how long the starts so far have worked
//   layer-00012.safetensors   packed tensors of a finished layer, reports in its metadata
//   out/             the model being put together; renamed to OUT at the very end
//   filling          while its files move into an OUT that cannot be renamed
//
// Nothing else that lies here is ever touched: output_check.h refuses a folder with it beforehand.
// Every file appears by one rename, so whatever is there is whole.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

#include "lieq/io/json.h"

namespace lieq {

/// OUT.run.
[[nodiscard]] std::filesystem::path RunFolderOf(const std::filesystem::path& output);

/// True where a run ended while it moved its files into `output`: what is there is its own.
[[nodiscard]] bool IsHalfFilled(const std::filesystem::path& output);

/// A setting in a message; "none" where it is not there.
[[nodiscard]] std::string SettingText(const Record& value);

class RunFolder {
 public:
  /// Takes the lock of OUT.run, making the folder where it is missing. Throws Error naming the
  /// process that holds it.
  explicit RunFolder(const std::filesystem::path& output);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  /// Compares with the settings of an earlier start; writes them where there was none, or where
  /// `start_over` says to forget what is there. Throws Error naming the first setting that differs.
  /// True where there is earlier work to go on with.
  bool Begin(const Record& settings, bool start_over);
  /// True where there is no earlier start, or one with these settings.
  [[nodiscard]] bool IsOf(const Record& settings) const;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] std::filesystem::path LayerFile(std::int64_t layer) const;
  /// The name of that file in the folder.
  [[nodiscard]] static std::string LayerName(std::int64_t layer);
  /// An empty folder for the finished model.
  [[nodiscard]] std::filesystem::path FreshOut() const;
  /// out/ becomes OUT (in exchange with an older OUT), then OUT.run goes. The folder that the
  /// process works in stays itself, so that a shell there sees the files: they move into it.
  void Finish();
  /// The same of a file in out/, which becomes OUT.
  void FinishFile(const std::filesystem::path& file);
  /// Removes OUT.run without a result.
  void Abandon();
  /// The same where it holds nothing that took work: no layer, no codes, and no plan but one that
  /// is made at once.
  void AbandonUnlessWorked(bool plan_is_work) noexcept;

 private:
  /// Throws Error where OUT holds what this program did not write.
  void CheckStillOurs() const;
  /// Moves the files of out/ into OUT, lieq.json last, and removes what OUT had of an older model.
  void Fill(const std::filesystem::path& out);

  std::filesystem::path output_, path_;
  int lock_ = -1;
};

/// How long all starts of a run have worked together: kept in OUT.run/seconds.json.
class RunSeconds {
 public:
  /// Reads what earlier starts took; none where nothing is there. This one began at `begin`.
  RunSeconds(const std::filesystem::path& folder, std::chrono::steady_clock::time_point begin);

  /// Writes what there is so far, so that a start that is killed counts up to here.
  void Keep() const;
  [[nodiscard]] double total() const;
  [[nodiscard]] int runs() const noexcept { return earlier_runs_ + 1; }

 private:
  std::filesystem::path file_;
  std::chrono::steady_clock::time_point begin_;
  double earlier_ = 0;
  int earlier_runs_ = 0;
};

}  // namespace lieq
