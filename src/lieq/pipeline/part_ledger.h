// A part of a run that several processes share, as a file: what it depends on, and its pieces
// (base/work_pieces.h). Parts that are written beside one another read what all of them need from
// each other's files (base/other_parts.h). docs/parts.md has the words for users.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/other_parts.h"
#include "lieq/base/work_pieces.h"
#include "lieq/io/json.h"

namespace lieq {

/// The index-th of `count` parts, counted from 1.
struct Part {
  Index index = 1, count = 1;
  friend bool operator==(const Part&, const Part&) = default;
};
/// Of "2/3". Throws UsageError.
[[nodiscard]] Part ParsePart(std::string_view text);
/// OUT.part-2-of-3
[[nodiscard]] std::filesystem::path PartFile(const std::filesystem::path& output, Part part);

class PartLedger : public WorkPieces, public OtherParts {
 public:
  /// Computes every count-th piece, from the index-th on, and goes on with what PartFile(output)
  /// holds of them. words: the command line, without part and output. Throws Error where that file
  /// is of another command, or is no part.
  PartLedger(Part part, std::vector<std::string> words, const std::filesystem::path& output);
  /// All parts of a run: computes nothing. Throws Error naming a part that is missing, there twice,
  /// not finished, of another command, of other settings, or that disagrees over a piece.
  explicit PartLedger(std::span<const std::filesystem::path> files);

  [[nodiscard]] const std::string* Find(const std::string& key) const override;
  [[nodiscard]] bool IsMine(Index index) override;
  void Keep(const std::string& key, std::string value) override;
  [[nodiscard]] std::vector<Index> Share(Index count) const override;
  [[nodiscard]] bool computes() const noexcept override { return !file_.empty(); }
  [[nodiscard]] bool whole() const noexcept override { return whole_; }
  void Depend(std::string_view setting, const std::string& value) override;
  [[nodiscard]] std::string Setting(std::string_view setting, std::string here) override;
  [[nodiscard]] double Seconds(const std::string& what, double here) override;

  [[nodiscard]] Index parts() const noexcept override { return part_.count; }
  void Show() override { Save(false); }
  [[nodiscard]] bool TakeOver(std::span<const std::string> keys) override;
  [[nodiscard]] bool AtWork() override;

  /// Writes the file. finished: it holds all of its pieces.
  void Save(bool finished);
  /// Of the run that the parts are of.
  [[nodiscard]] const std::vector<std::string>& words() const noexcept { return words_; }
  /// What that run was told to write; of all parts what the first one was.
  [[nodiscard]] const std::string& output() const noexcept { return output_; }
  [[nodiscard]] const std::filesystem::path& file() const noexcept { return file_; }

 private:
  /// Another part of the same run, as its file beside this one's said it last.
  struct Peer {
    std::filesystem::file_time_type written;
    std::uintmax_t bytes = 0;  // two files may be of one tick of the clock
    bool finished = false;
    Json pieces;
  };
  void Add(const std::filesystem::path& file, const JsonObject& part);
  /// Reads the files that have changed. Those of another command or other settings are left alone:
  /// merge refuses them.
  void ReadPeers();

  Part part_;
  std::vector<std::string> words_;
  std::string output_;
  std::filesystem::path file_;  // empty: all parts
  Json settings_ = Json::object(), seconds_ = Json::object(), pieces_ = Json::object();
  mutable std::map<std::string, std::string> texts_;  // of pieces that were asked for
  mutable std::string asked_;                         // the key that was asked for last
  std::map<Index, Peer> peers_;
  bool whole_ = true;
  std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
};

}  // namespace lieq
