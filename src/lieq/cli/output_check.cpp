#include "lieq/cli/output_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <utility>
#include <variant>

#include "lieq/base/error.h"
#include "lieq/base/shell.h"
#include "lieq/pipeline/cache_folder.h"
#include "lieq/pipeline/run_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

using PathOf = const fs::path& (*)(const Arguments&);
using PathsOf = const std::vector<fs::path>& (*)(const Arguments&);

/// A member of the arguments, by the way to it.
template <auto... kWay>
const auto& At(const Arguments& arguments) {
  return (arguments.*....*kWay);
}

struct Field {
  PathOf path = nullptr;
  PathsOf paths = nullptr;  // or several

  constexpr Field(PathOf one) : path(one) {}
  constexpr Field(PathsOf many) : paths(many) {}
};

struct InputRow {
  Field field;
  InputRole role;
  std::string_view what;
};

/// Every field that names something to read. What a command does not take is empty.
constexpr std::array kInputs{
    InputRow{At<&Arguments::run, &QuantizeRequest::model>, InputRole::kModel, "the source model"},
    InputRow{At<&Arguments::models>, InputRole::kModel, "a model"},
    InputRow{At<&Arguments::reference>, InputRole::kModel, "the reference"},
    InputRow{At<&Arguments::against>, InputRole::kModel, "the model of --against"},
    InputRow{At<&Arguments::run, &QuantizeRequest::damage, &DamageRequest::text>, InputRole::kFile,
             "the text"},
    InputRow{At<&Arguments::texts>, InputRole::kFile, "a text"},
    InputRow{At<&Arguments::run, &QuantizeRequest::calibration, &CalibrationRequest::files>,
             InputRole::kFile, "a calibration text"},
    InputRow{At<&Arguments::second_text>, InputRole::kFile, "a second text"},
    InputRow{At<&Arguments::prompt_file>, InputRole::kFile, "the prompt"},
    InputRow{At<&Arguments::run, &QuantizeRequest::ranking, &RankingRequest::diagnostics>,
             InputRole::kFile, "the diagnostics"},
    InputRow{At<&Arguments::run, &QuantizeRequest::plan>, InputRole::kModel,
             "the plan"},  // a quantized folder has one too
    InputRow{At<&Arguments::plans>, InputRole::kModel, "a plan"},
    InputRow{At<&Arguments::run, &QuantizeRequest::ranking, &RankingRequest::scores>,
             InputRole::kFile, "the scores"},
    InputRow{At<&Arguments::run, &QuantizeRequest::damage, &DamageRequest::sensitivities>,
             InputRole::kFile, "the sensitivities"},
    InputRow{At<&Arguments::run, &QuantizeRequest::damage, &DamageRequest::base>, InputRole::kModel,
             "the base mix"},
    InputRow{At<&Arguments::runs>, InputRole::kFolder, "a run"},
};

struct OutputRow {
  std::string_view command;
  PathOf field;
  std::string_view what;
  OutputRole role;
  std::string_view kind = {};  // of a file
};

constexpr std::array kOutputs{
    OutputRow{"quantize", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kModel},
    OutputRow{"export", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kModel, "gguf"},
    OutputRow{"study", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kStudy},
    OutputRow{"diagnose", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "diagnostics"},
    OutputRow{"sensitivity", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "sensitivities"},
    OutputRow{"plan", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "plan"},
    OutputRow{"report", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "report"},
    OutputRow{"calibrate", At<&Arguments::imatrix>, "the importance matrix", OutputRole::kFile,
              "imatrix"},
    OutputRow{"evaluate", At<&Arguments::predictions>, "the file of predictions", OutputRole::kFile,
              "predictions"},
};

fs::path With(fs::path path, const char* suffix) {
  return path += suffix;
}

OutputPlace PlaceOf(const OutputRow& row, const Arguments& arguments) {
  OutputPlace place{row.field(arguments), row.role, row.what, FindFileKind(row.kind)};
  if (row.command == "export" && arguments.exporter != nullptr && arguments.exporter->one_file) {
    place.role = OutputRole::kFile;
  }
  if (row.command == "plan" && !arguments.plan_as.empty()) {
    place.kind = FindFileKind("plan --as");
  }
  return place;
}

// Paths ------------------------------------------------------------------------------------------

/// Without links, as far as it is there.
fs::path Canonical(const fs::path& path) {
  std::error_code error;
  fs::path canonical = fs::weakly_canonical(fs::absolute(path), error);
  if (error) canonical = fs::absolute(path).lexically_normal();
  if (canonical.filename().empty() && canonical.has_relative_path()) {
    canonical = canonical.parent_path();
  }
  return canonical;
}

bool Within(const fs::path& inner, const fs::path& outer) {
  const auto [in, out] = std::mismatch(inner.begin(), inner.end(), outer.begin(), outer.end());
  return out == outer.end();
}

/// What a path leads to, whatever it is called: device and inode.
using Identity = std::pair<std::uint64_t, std::uint64_t>;

std::optional<Identity> IdentityOf(const fs::path& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  return Identity{info.st_dev, info.st_ino};
}

/// Calls `each` for what a folder holds, links not followed, in folders down to `depth`.
template <class Function>
void ForEntries(const fs::path& folder, int depth, const Function& each) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    each(entry->path());
    std::error_code unreadable;
    if (depth > 0 && entry->symlink_status(unreadable).type() == fs::file_type::directory) {
      ForEntries(entry->path(), depth - 1, each);
    }
  }
}

constexpr int kDepth = 4;  // of folders inside an input or output that are looked through

/// All inputs by every name that they have.
class Inputs {
 public:
  explicit Inputs(const Arguments& arguments) : places_(InputsOf(arguments)) {
    for (const InputPlace& place : places_) {
      std::error_code error;
      const fs::path absolute = fs::absolute(place.path);
      Add(absolute, place);
      if (place.role != InputRole::kModel) continue;
      if (fs::is_directory(absolute, error)) {
        // Snapshots of a hub's cache are links to files elsewhere.
        ForEntries(absolute, kDepth, [&](const fs::path& entry) { Add(entry, place); });
      } else {
        const fs::path tokenizer = absolute.parent_path() / "tokenizer.json";
        if (fs::exists(tokenizer, error)) Add(tokenizer, place);
      }
    }
  }

  /// The first input that is, lies in or holds the output; null where it is apart from all.
  struct Clash {
    const InputPlace* input = nullptr;
    std::string_view how;  // "is"
    fs::path where;        // of the input
  };
  [[nodiscard]] std::optional<Clash> ClashWith(const OutputPlace& output) const {
    const fs::path path = Canonical(output.path);
    if (const Named* same = FindIdentity(output.path)) {
      return Clash{same->place, "is", same->given};
    }
    for (const Named& named : named_) {
      for (const fs::path& name : {named.canonical, named.link}) {
        if (name == path) return Clash{named.place, "is", named.given};
        if (Within(name, path)) return Clash{named.place, "holds", named.given};
      }
    }
    for (const Named& named : named_) {
      const bool open = named.place->role == InputRole::kFolder && output.role == OutputRole::kFile;
      if (!open && Within(path, named.canonical)) {
        return Clash{named.place, "lies in", named.given};
      }
    }
    std::optional<Clash> linked;
    std::error_code error;
    if (output.role != OutputRole::kFile && fs::is_directory(output.path, error)) {
      ForEntries(output.path, kDepth, [&](const fs::path& entry) {
        const Named* same = linked ? nullptr : FindIdentity(entry);
        if (same != nullptr) linked = Clash{same->place, "holds a link to", same->given};
      });
    }
    return linked;
  }

 private:
  struct Named {
    const InputPlace* place;
    fs::path given, canonical, link;  // link: the last part is not followed
  };

  void Add(const fs::path& path, const InputPlace& place) {
    const std::optional<Identity> identity = IdentityOf(path);
    if (!identity) return;  // not there: what reads it says so
    named_.push_back(
        {&place, path, Canonical(path), Canonical(path.parent_path()) / path.filename()});
    identities_.emplace(*identity, named_.size() - 1);
  }
  [[nodiscard]] const Named* FindIdentity(const fs::path& path) const {
    const std::optional<Identity> identity = IdentityOf(path);
    const auto found = identity ? identities_.find(*identity) : identities_.end();
    return found != identities_.end() ? &named_[found->second] : nullptr;
  }

  std::vector<InputPlace> places_;
  std::vector<Named> named_;
  std::map<Identity, std::size_t> identities_;
};

void CheckApart(const OutputPlace& output, const Inputs& inputs) {
  const auto clash = inputs.ClashWith(output);
  if (!clash) return;
  const std::string what(output.what);
  throw Error({.what = what + " " + std::string(clash->how) + " " +
                       std::string(clash->input->what) + ", which would be lost or changed",
               .where = output.path.string(),
               .found = clash->where.string(),
               .hint = "name a place apart from everything that is read; --force does not help"});
}

/// A study keeps its codes in its own folder.
void CheckApart(const std::vector<OutputPlace>& outputs) {
  for (const OutputPlace& outer : outputs) {
    for (const OutputPlace& inner : outputs) {
      if (&outer == &inner) continue;
      const fs::path in = Canonical(inner.path), out = Canonical(outer.path);
      if (!Within(in, out) || (outer.role == OutputRole::kStudy && in != out)) continue;
      throw Error({.what = std::string(inner.what) + " lies in " + std::string(outer.what),
                   .where = inner.path.string(),
                   .found = outer.path.string(),
                   .hint = "name places apart from one another"});
    }
  }
}

// What is there already --------------------------------------------------------------------------

[[noreturn]] void RefuseForeign(const fs::path& folder, const std::vector<std::string>& foreign,
                                const std::string& hint) {
  std::string found = foreign.front();
  if (foreign.size() > 1) found += " and " + std::to_string(foreign.size() - 1) + " more";
  throw Error({.what = "the folder holds what this program did not write; it is left alone",
               .where = folder.string(),
               .found = found,
               .hint = hint});
}

void CheckFile(const OutputPlace& output, bool forced, bool needs_force) {
  std::error_code error;
  const fs::path& file = output.path;
  const fs::file_status status = fs::status(file, error);
  if (!fs::exists(status)) return;
  if (fs::is_directory(status)) {
    const std::string inside = (file / "NAME").string();
    throw Error({.what = std::string(output.what) + " is one file, and a folder is there",
                 .where = file.string(),
                 .hint = "name the file: " + ShellQuoted(inside)});
  }
  if (!fs::is_regular_file(status)) {
    throw Error({.what = std::string(output.what) + " is neither a file nor a new name",
                 .where = file.string(),
                 .expected = "a name in a folder: it is written beside it first, then renamed",
                 .found = "a device, a pipe or the like"});
  }
  const bool replaceable =
      output.kind != nullptr && (fs::file_size(file, error) == 0 || output.kind->is(file));
  if (replaceable && (forced || !needs_force)) return;
  const std::string kind(output.kind != nullptr ? output.kind->name : "a file of this program");
  throw Error({.what = std::string(output.what) + " is there already",
               .where = file.string(),
               .expected = replaceable ? "" : "a new name, or " + kind,
               .found = replaceable ? "" : "another file, which is left alone",
               .hint = replaceable ? "choose another name, or --force to replace it"
                                   : "choose another name, or remove the file"});
}

/// The folder of a finished model. Without --force `quantize` looks further: it may be done.
void CheckModelFolder(const OutputPlace& output, const Arguments& arguments) {
  std::error_code error;
  const fs::path& folder = output.path;
  const fs::file_status status = fs::status(folder, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) {
    throw Error({.what = std::string(output.what) + " is a folder, and a file is there",
                 .where = folder.string(),
                 .hint = "choose another -o, or remove the file"});
  }
  const auto own = IdentityOf(folder), above = IdentityOf(Canonical(folder).parent_path());
  if (own && above && own->first != above->first) {
    throw Error({.what = std::string(output.what) + " is the root of a mounted disk",
                 .where = folder.string(),
                 .expected = "a folder that can be renamed: the result appears at once",
                 .hint = "name a folder in it: -o " + ShellQuoted((folder / "NAME").string())});
  }
  if (fs::is_empty(folder, error)) return;
  const std::vector<std::string> foreign = ForeignToResult(folder);
  const std::string hint = "choose another -o, or move these files away";
  const bool half = IsHalfFilled(folder);
  if (!half && !IsResult(folder)) {
    RefuseForeign(folder, foreign.empty() ? std::vector<std::string>{"no lieq.json"} : foreign,
                  hint);
  }
  if (!foreign.empty() && (half || arguments.run.force)) RefuseForeign(folder, foreign, hint);
  if (half || arguments.run.force || arguments.command == "quantize") return;
  throw Error({.what = "the output is there already",
               .where = folder.string(),
               .hint = "choose another -o, or --force to replace it"});
}

void CheckRun(const OutputPlace& output, const Arguments& arguments) {
  std::error_code error;
  const fs::path& folder = output.path;
  const fs::file_status status = fs::symlink_status(folder, error);
  if (!fs::exists(status)) return;
  const std::string hint = "choose another -o, or move " + ShellQuoted(folder.string()) + " away";
  if (!fs::is_directory(status)) {
    throw Error({.what = "the working folder of this output is no folder; it is left alone",
                 .where = folder.string(),
                 .hint = hint});
  }
  const std::vector<std::string> foreign = ForeignToRun(folder);
  if (!foreign.empty()) RefuseForeign(folder, foreign, hint);
  if (arguments.command != "quantize" && fs::exists(folder / "settings.json", error)) {
    throw Error({.what = "an unfinished `lieq quantize` is here, which is not thrown away",
                 .where = folder.string(),
                 .hint = "choose another -o, finish it by its own command, or remove " +
                         ShellQuoted(folder.string())});
  }
}

/// Folders that files are added to: what they are known by must be ours.
void CheckAdded(const OutputPlace& output) {
  std::error_code error;
  const fs::file_status status = fs::status(output.path, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) {
    throw Error({.what = std::string(output.what) + " is a folder, and a file is there",
                 .where = output.path.string()});
  }
  const bool codes = output.role == OutputRole::kCodes;
  const fs::path record = output.path / (codes ? "settings.json" : "study.json");
  if (output.role == OutputRole::kCache || !fs::exists(record, error)) return;
  if (codes ? IsSettings(record) : IsRecord(record, "study")) return;
  throw Error(
      {.what = codes ? "not a folder of codes: this is not what they were made by" : "not a study",
       .where = record.string() + (codes ? "" : ": /kind"),
       .expected = codes ? "the settings of codes" : "kind \"study\", schema 1",
       .hint = "name another folder"});
}

// What can be written ----------------------------------------------------------------------------

/// Throws Error where no file can be made in `folder`.
void Probe(const fs::path& folder, const std::string& hint) {
  std::string name = (folder / ".lieq-XXXXXX").string();
  const int descriptor = ::mkstemp(name.data());
  if (descriptor < 0) {
    throw Error({.what = std::string("cannot write into this folder: ") + std::strerror(errno),
                 .where = folder.string(),
                 .hint = hint});
  }
  ::close(descriptor);
  ::unlink(name.c_str());
}

void CheckWritable(const OutputPlace& output) {
  if (output.role == OutputRole::kRun) return;  // beside the output
  std::error_code error;
  fs::path folder = fs::absolute(output.path);
  const bool added = output.role == OutputRole::kStudy || output.role == OutputRole::kCodes ||
                     output.role == OutputRole::kCache;
  const std::string hint = output.role == OutputRole::kCache
                               ? "--cache FOLDER names another place for it"
                               : "choose another place for " + std::string(output.what);
  if (!added) {
    folder = folder.parent_path();
    if (!fs::is_directory(folder, error)) {
      throw Error({.what = "the folder to write into does not exist", .where = folder.string()});
    }
    return Probe(folder, hint);
  }
  // What is there already may be all that is needed.
  if (fs::is_directory(folder, error) && !fs::is_empty(folder, error) &&
      output.role != OutputRole::kStudy) {
    return;
  }
  while (!fs::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  if (!fs::is_directory(folder, error)) {
    throw Error({.what = std::string(output.what) + " cannot be a folder here",
                 .where = folder.string(),
                 .found = "a file",
                 .hint = hint});
  }
  Probe(folder, hint);
}

}  // namespace

std::vector<InputPlace> InputsOf(const Arguments& arguments) {
  std::vector<InputPlace> places;
  const auto add = [&](const fs::path& path, InputRole role, std::string_view what) {
    if (!path.empty()) places.push_back({path, role, what});
  };
  for (const InputRow& row : kInputs) {
    if (row.field.path != nullptr) {
      add(row.field.path(arguments), row.role, row.what);
    } else {
      for (const fs::path& path : row.field.paths(arguments)) add(path, row.role, row.what);
    }
  }
  if (!arguments.tasks.empty()) {
    add(arguments.task_data, InputRole::kFolder, "the data of the tasks");
    for (const fs::path& file : arguments.task_files) {
      add(file, InputRole::kFile, "the description of a task");
    }
  }
  return places;
}

std::vector<OutputPlace> OutputsOf(const Arguments& arguments) {
  std::vector<OutputPlace> places;
  bool known = false;
  for (const OutputRow& row : kOutputs) {
    if (row.command != arguments.command) continue;
    known = true;
    if (!row.field(arguments).empty()) places.push_back(PlaceOf(row, arguments));
  }
  // One that is not in the table replaces nothing.
  if (!known && !arguments.run.output.empty()) {
    places.push_back({arguments.run.output, OutputRole::kFile, "the output"});
  }
  const bool runs = arguments.command == "quantize" || arguments.command == "export";
  if (runs) {
    places.push_back({RunFolderOf(arguments.run.output), OutputRole::kRun, "the working folder"});
  }
  const bool beside = arguments.command == "sensitivity" || arguments.command == "plan" ||
                      (arguments.command == "quantize" && arguments.run.dry_run);
  if (!arguments.run.damage.codes.empty()) {
    places.push_back({arguments.run.damage.codes, OutputRole::kCodes, "the folder of codes"});
  } else if (beside) {
    places.push_back(
        {With(arguments.run.output, ".codes"), OutputRole::kCodes, "the folder of codes"});
  }
  if (!arguments.reference.empty()) {
    places.push_back({arguments.machine.cache.empty() ? CacheFolder() : arguments.machine.cache,
                      OutputRole::kCache, "the cache of references"});
  }
  return places;
}

Arguments WithPlainOutputs(const Arguments& arguments) {
  Arguments plain = arguments;
  const auto simplify = [&](fs::path& path) {
    if (path.empty()) return;
    std::error_code error;
    const bool slash = path.filename().empty();
    const fs::path name = slash ? path.parent_path() : path;
    if (fs::is_symlink(fs::symlink_status(name, error)) && !fs::exists(name, error)) {
      throw Error({.what = "the output is a link to nothing",
                   .where = name.string(),
                   .found = fs::read_symlink(name, error).string(),
                   .hint = "remove the link, or name what it should lead to"});
    }
    const bool dots = name.filename() == "." || name.filename() == "..";
    path = dots || fs::is_symlink(fs::symlink_status(name, error)) ? Canonical(name) : name;
  };
  for (const OutputPlace& place : OutputsOf(arguments)) {
    if (place.role == OutputRole::kFile && place.path.filename().empty() &&
        !fs::is_directory(place.path)) {
      throw Error({.what = std::string(place.what) + " is one file, and this names a folder",
                   .where = place.path.string(),
                   .hint = "name the file: " + ShellQuoted((place.path / "NAME").string())});
    }
  }
  for (fs::path* path : {&plain.run.output, &plain.run.damage.codes, &plain.machine.cache,
                         &plain.imatrix, &plain.predictions}) {
    simplify(*path);
  }
  return plain;
}

void CheckOutputs(const Arguments& arguments) {
  const std::vector<OutputPlace> outputs = OutputsOf(arguments);
  if (outputs.empty()) return;
  const Inputs inputs(arguments);
  for (const OutputPlace& output : outputs) CheckApart(output, inputs);
  CheckApart(outputs);
  for (const OutputPlace& output : outputs) {
    switch (output.role) {
      case OutputRole::kFile:
        CheckFile(output, arguments.run.force, arguments.command == "export");
        break;
      case OutputRole::kModel:
        CheckModelFolder(output, arguments);
        break;
      case OutputRole::kRun:
        CheckRun(output, arguments);
        break;
      default:
        CheckAdded(output);
    }
  }
  for (const OutputPlace& output : outputs) CheckWritable(output);
}

}  // namespace lieq
