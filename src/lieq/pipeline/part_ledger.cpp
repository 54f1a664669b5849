#include "lieq/pipeline/part_ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/shell.h"
#include "lieq/io/printable.h"
#include "lieq/pipeline/requests.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr int kSchema = 1;
constexpr Index kMostParts = 100000;
constexpr auto kSaveEvery = std::chrono::seconds(10);
constexpr std::string_view kAgain = "compute it again, by the same command";

Json ReadPart(const fs::path& file) {
  // Numbers of every token of a text: larger than other records.
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 32;
  return ParseJson(ReadText(file, kLargest), file.string());
}

Part PartOf(const JsonObject& part) {
  const Json& numbers = part.At("part");
  if (!numbers.is_array() || numbers.size() != 2 || !numbers[0].is_number_integer() ||
      !numbers[1].is_number_integer()) {
    throw Error({.what = "not a part",
                 .where = part.Where("part"),
                 .expected = "its number, and of how many"});
  }
  const Part read{numbers[0].get<Index>(), numbers[1].get<Index>()};
  if (read.count < 1 || read.count > kMostParts || read.index < 1 || read.index > read.count) {
    throw Error({.what = "value out of range",
                 .where = part.Where("part"),
                 .expected = "1 to the number of parts",
                 .found = fmt::format("{} of {}", read.index, read.count)});
  }
  return read;
}

std::vector<std::string> WordsOf(const JsonObject& part) {
  std::vector<std::string> words;
  const Json& array = part.At("words");
  const bool good = array.is_array() && array.size() >= 2 &&
                    std::ranges::all_of(array, [](const Json& word) { return word.is_string(); });
  if (!good) {
    throw Error({.what = "not a command line", .where = part.Where("words")});
  }
  for (const Json& word : array) words.push_back(word.get<std::string>());
  return words;
}

/// Throws Error unless it is a part, of this version.
void CheckKind(const JsonObject& part, const fs::path& file) {
  if (part.String("kind", "") != "part" || part.Integer("schema", 0) != kSchema) {
    throw Error({.what = "not a part of a run",
                 .where = file.string(),
                 .expected = "a file that --part wrote, of this version"});
  }
  for (const std::string_view key : {"settings", "seconds", "pieces"}) (void)part.Object(key);
}

std::string Line(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + ShellQuoted(word);
  return line;
}

}  // namespace

Part ParsePart(std::string_view text) {
  Part part;
  const std::size_t slash = text.find('/');
  const auto number = [](std::string_view digits, Index& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  const bool good = slash != text.npos && number(text.substr(0, slash), part.index) &&
                    number(text.substr(slash + 1), part.count) && part.index >= 1 &&
                    part.index <= part.count && part.count <= kMostParts;
  if (!good) {
    throw UsageError(fmt::format("--part: expected a number and of how many, as 2/3, found {}",
                                 Printable(text)));
  }
  return part;
}

fs::path PartFile(const fs::path& output, Part part) {
  fs::path file = output;
  return file += fmt::format(".part-{}-of-{}", part.index, part.count);
}

PartLedger::PartLedger(Part part, std::vector<std::string> words, const fs::path& output)
    : part_(part),
      words_(std::move(words)),
      output_(output.string()),
      file_(PartFile(output, part)) {
  if (!fs::exists(file_)) return;
  const Json json = ReadPart(file_);
  const JsonObject object(json, file_.string());
  CheckKind(object, file_);
  if (PartOf(object) != part_ || WordsOf(object) != words_) {
    throw Error({.what = "a part of another command is there already",
                 .where = file_.string(),
                 .expected = Line(words_),
                 .found = Line(WordsOf(object)),
                 .hint = "name another output, or remove the file"});
  }
  Add(file_, object);
}

PartLedger::PartLedger(std::span<const fs::path> files) {
  std::map<Index, fs::path> there;
  for (const fs::path& file : files) {
    const Json json = ReadPart(file);
    const JsonObject object(json, file.string());
    CheckKind(object, file);
    const Part part = PartOf(object);
    const std::vector<std::string> words = WordsOf(object);
    if (there.empty()) {
      part_ = part;
      words_ = words;
      output_ = object.String("output");
    }
    if (part.count != part_.count) {
      throw Error({.what = "parts of different numbers of parts",
                   .where = file.string(),
                   .expected = fmt::format("a part of {}", part_.count),
                   .found = fmt::format("part {} of {}", part.index, part.count)});
    }
    if (words != words_) {
      throw Error({.what = "a part of another command",
                   .where = file.string(),
                   .expected = Line(words_),
                   .found = Line(words)});
    }
    const auto [other, is_new] = there.emplace(part.index, file);
    if (!is_new) {
      throw Error({.what = fmt::format("part {} of {} is there twice", part.index, part.count),
                   .where = file.string(),
                   .found = other->second.string() + " too"});
    }
    if (!object.Boolean("finished", false)) {
      throw Error({.what = fmt::format("part {} of {} is not finished", part.index, part.count),
                   .where = file.string(),
                   .hint = "give its command again: it goes on"});
    }
    Add(file, object);
  }
  for (Index index = 1; index <= part_.count; ++index) {
    if (there.contains(index)) continue;
    throw Error({.what = fmt::format("part {} of {} is missing", index, part_.count),
                 .where = "merge",
                 .expected = fmt::format("all {} parts", part_.count),
                 .found = fmt::format("{}", there.size()),
                 .hint = Line(words_) + fmt::format(" --part {}/{}", index, part_.count)});
  }
}

void PartLedger::Add(const fs::path& file, const JsonObject& part) {
  for (const auto& [name, value] : part.At("settings").items()) {
    const auto [there, is_new] = settings_.emplace(name, value);
    if (is_new || *there == value) continue;
    throw Error({.what = "a part of other settings: " + Printable(name),
                 .where = file.string(),
                 .expected = there->dump(),
                 .found = value.dump(),
                 .hint = std::string(kAgain)});
  }
  for (const auto& [name, value] : part.At("seconds").items()) {
    if (!value.is_number()) {
      throw Error({.what = "not a number", .where = part.Where("seconds"), .found = value.dump()});
    }
    seconds_[name] = seconds_.value(name, 0.0) + value.get<double>();
  }
  for (const auto& [name, value] : part.At("pieces").items()) {
    const auto [there, is_new] = pieces_.emplace(name, value);
    if (is_new || *there == value) continue;
    throw Error({.what = "two parts disagree over what both computed",
                 .where = file.string() + ", " + Printable(name),
                 .expected = "the same numbers: the same model, texts and arithmetic",
                 .hint = std::string(kAgain)});
  }
}

const std::string* PartLedger::Find(const std::string& key) const {
  asked_ = key;
  const auto piece = pieces_.find(key);
  if (piece == pieces_.end()) return nullptr;
  return &texts_.insert_or_assign(key, piece->dump()).first->second;
}

bool PartLedger::IsMine(Index index) {
  if (!computes()) {
    throw Error({.what = "no part holds a piece of this work",
                 .where = asked_,
                 .hint = "the inputs have changed since, or another version made the parts"});
  }
  const bool mine = index % part_.count == part_.index - 1;
  whole_ = whole_ && mine;
  return mine;
}

std::vector<Index> PartLedger::Share(Index count) const {
  std::vector<Index> mine;
  for (Index index = part_.index - 1; index < count; index += part_.count) mine.push_back(index);
  return mine;
}

void PartLedger::Keep(const std::string& key, std::string value) {
  pieces_[key] = ParseJson(value, key);
  if (std::chrono::steady_clock::now() - saved_ > kSaveEvery) Save(false);
}

void PartLedger::ReadPeers() {
  if (!computes()) return;
  for (Index index = 1; index <= part_.count; ++index) {
    if (index == part_.index) continue;
    const fs::path file = PartFile(output_, {index, part_.count});
    std::error_code failed;
    const auto written = fs::last_write_time(file, failed);
    const std::uintmax_t bytes = failed ? 0 : fs::file_size(file, failed);
    if (failed) {
      peers_.erase(index);
      continue;
    }
    const auto known = peers_.find(index);
    if (known != peers_.end() && known->second.written == written && known->second.bytes == bytes) {
      continue;
    }
    // Of what cannot be used there are no pieces, and nothing to wait for.
    Peer peer{.written = written, .bytes = bytes, .finished = true, .pieces = Json::object()};
    try {
      Json json = ReadPart(file);
      const JsonObject object(json, file.string());
      CheckKind(object, file);
      bool same = PartOf(object) == Part{index, part_.count} && WordsOf(object) == words_;
      for (const auto& [name, value] : json["settings"].items()) {
        same = same && settings_.value(name, value) == value;
      }
      if (same) {
        peer.finished = object.Boolean("finished", false);
        peer.pieces = std::move(json["pieces"]);
      }
    } catch (const Error&) {  // merge says what is wrong with it
    }
    peers_.insert_or_assign(index, std::move(peer));
  }
}

bool PartLedger::TakeOver(std::span<const std::string> keys) {
  const auto known = [&](const std::string& key) { return pieces_.contains(key); };
  if (std::ranges::all_of(keys, known)) return true;
  ReadPeers();
  for (const std::string& key : keys) {
    if (known(key)) continue;
    for (const auto& [index, peer] : peers_) {
      const auto piece = peer.pieces.find(key);
      if (piece == peer.pieces.end()) continue;
      pieces_[key] = *piece;
      break;
    }
  }
  return std::ranges::all_of(keys, known);
}

bool PartLedger::AtWork() {
  ReadPeers();
  return std::ranges::any_of(peers_, [](const auto& peer) { return !peer.second.finished; });
}

void PartLedger::Depend(std::string_view setting, const std::string& value) {
  const auto [there, is_new] = settings_.emplace(setting, value);
  if (is_new && !computes()) {
    throw Error({.what = "the parts do not say a setting",
                 .where = std::string(setting),
                 .hint = "another version made them"});
  }
  if (is_new || *there == value) return;
  throw Error({.what = "the parts were computed with another " + std::string(setting),
               .where = computes() ? file_.string() : "merge",
               .expected = value,
               .found = there->get<std::string>()});
}

std::string PartLedger::Setting(std::string_view setting, std::string here) {
  if (!computes()) {
    const auto there = settings_.find(setting);
    return there != settings_.end() ? there->get<std::string>() : here;
  }
  Depend(setting, here);
  return here;
}

double PartLedger::Seconds(const std::string& what, double here) {
  if (!computes()) return seconds_.value(what, 0.0);
  seconds_[what] = seconds_.value(what, 0.0) + here;
  return here;
}

void PartLedger::Save(bool finished) {
  const Json record{
      {"schema", kSchema},   {"kind", "part"},    {"part", {part_.index, part_.count}},
      {"words", words_},     {"output", output_}, {"settings", settings_},
      {"seconds", seconds_}, {"pieces", pieces_}, {"finished", finished}};
  WriteFileAtomically(file_, record.dump() + "\n");
  saved_ = std::chrono::steady_clock::now();
}

}  // namespace lieq
