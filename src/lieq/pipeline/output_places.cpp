#include "lieq/pipeline/output_places.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/base/shell.h"
#include "lieq/pipeline/run_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

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
class InputNames {
 public:
  explicit InputNames(std::vector<InputPlace> places) : places_(std::move(places)) {
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
    const fs::path path = CanonicalPath(output.path);
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
        {&place, path, CanonicalPath(path), CanonicalPath(path.parent_path()) / path.filename()});
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

void CheckApart(const OutputPlace& output, const InputNames& inputs) {
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
      const fs::path in = CanonicalPath(inner.path), out = CanonicalPath(outer.path);
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

/// The folder of a finished model. Work that resumes looks further: it may be done.
void CheckModelFolder(const OutputPlace& output, const OverwritePolicy& policy) {
  std::error_code error;
  const fs::path& folder = output.path;
  const fs::file_status status = fs::status(folder, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) {
    throw Error({.what = std::string(output.what) + " is a folder, and a file is there",
                 .where = folder.string(),
                 .hint = "choose another -o, or remove the file"});
  }
  const auto own = IdentityOf(folder), above = IdentityOf(CanonicalPath(folder).parent_path());
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
  if (!foreign.empty() && (half || policy.force)) RefuseForeign(folder, foreign, hint);
  if (half || policy.force || policy.resumes) return;
  throw Error({.what = "the output is there already",
               .where = folder.string(),
               .hint = "choose another -o, or --force to replace it"});
}

void CheckRun(const OutputPlace& output, const OverwritePolicy& policy) {
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
  if (!policy.resumes && fs::exists(folder / "settings.json", error)) {
    throw Error({.what = "an unfinished run is here, which is not thrown away",
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

fs::path CanonicalPath(const fs::path& path) {
  std::error_code error;
  fs::path canonical = fs::weakly_canonical(fs::absolute(path), error);
  if (error) canonical = fs::absolute(path).lexically_normal();
  if (canonical.filename().empty() && canonical.has_relative_path()) {
    canonical = canonical.parent_path();
  }
  return canonical;
}

fs::path PlainOutput(const fs::path& path) {
  if (path.empty()) return path;
  std::error_code error;
  const bool slash = path.filename().empty();
  const fs::path name = slash ? path.parent_path() : path;
  const bool link = fs::is_symlink(fs::symlink_status(name, error));
  if (link && !fs::exists(name, error)) {
    throw Error({.what = "the output is a link to nothing",
                 .where = name.string(),
                 .found = fs::read_symlink(name, error).string(),
                 .hint = "remove the link, or name what it should lead to"});
  }
  const bool dots = name.filename() == "." || name.filename() == "..";
  return dots || link ? CanonicalPath(name) : name;
}

void CheckPlaces(const std::vector<InputPlace>& inputs, const std::vector<OutputPlace>& outputs,
                 const OverwritePolicy& policy) {
  if (outputs.empty()) return;
  const InputNames names(inputs);
  for (const OutputPlace& output : outputs) CheckApart(output, names);
  CheckApart(outputs);
  for (const OutputPlace& output : outputs) {
    switch (output.role) {
      case OutputRole::kFile:
        CheckFile(output, policy.force, policy.keeps_files);
        break;
      case OutputRole::kModel:
        CheckModelFolder(output, policy);
        break;
      case OutputRole::kRun:
        CheckRun(output, policy);
        break;
      default:
        CheckAdded(output);
    }
  }
  for (const OutputPlace& output : outputs) CheckWritable(output);
}

}  // namespace lieq
