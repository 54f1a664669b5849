#include "lieq/container/model_place.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/io/json.h"
#include "lieq/io/printable.h"
#include "lieq/io/weight_files.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kAdapterConfig = "adapter_config.json";

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// A path in a hint, as a shell takes it.
std::string Quoted(const fs::path& path) {
  const std::string text = Printable(path.string(), 1000);
  if (text.find_first_of(" '\"\\$`&;()<>|*?[]#~!") == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

/// "Qwen/Qwen3-0.6B": one slash between two plain names, and no such folder to be mistyped here.
bool LooksLikeHubName(const fs::path& path) {
  const std::string text = path.string();
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == text.size()) return false;
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
  };
  const std::string owner = text.substr(0, slash), name = text.substr(slash + 1);
  return owner[0] != '.' && std::all_of(owner.begin(), owner.end(), plain) &&
         std::all_of(name.begin(), name.end(), plain) && !Exists(owner);
}

/// Folders inside `folder` that hold `file`, sorted; at most `limit`.
std::vector<fs::path> FoldersWith(const fs::path& folder, std::string_view file,
                                  std::size_t limit = 64) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code broken;
    if (entry->is_directory(broken) && Exists(entry->path() / file)) found.push_back(entry->path());
    if (found.size() == limit) break;
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// "a, b, c and 2 more", of names of files or folders.
std::string Listed(const std::vector<std::string>& names) {
  constexpr std::size_t kNamed = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamed); ++i) {
    text += (i > 0 ? ", " : "") + Printable(names[i]);
  }
  if (names.size() > kNamed) text += " and " + std::to_string(names.size() - kNamed) + " more";
  return text;
}

[[noreturn]] void Fail(std::string what, const fs::path& where, std::string expected,
                       std::string found, std::string hint) {
  throw Error({.what = std::move(what),
               .where = where.string(),
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = std::move(hint)});
}

[[noreturn]] void NoSuchFolder(const fs::path& folder) {
  std::string hint;
  if (LooksLikeHubName(folder)) {
    const std::string name = folder.filename().string();
    hint = "download it first: hf download " + folder.string() + " --local-dir " + name +
           " (with huggingface_hub before 0.34: huggingface-cli download, same arguments)";
  }
  Fail("no such folder", folder, "a folder with config.json, *.safetensors and tokenizer.json", "",
       std::move(hint));
}

/// The snapshot of a hub cache's repository that the main branch points at, or the only one.
fs::path SnapshotOf(const fs::path& repository) {
  const std::vector<fs::path> snapshots = FoldersWith(repository / "snapshots", "config.json");
  if (snapshots.size() == 1) return snapshots.front();
  if (snapshots.empty() || !Exists(repository / "refs" / "main")) return {};
  std::string commit = ReadText(repository / "refs" / "main", 4096);
  while (!commit.empty() && static_cast<unsigned char>(commit.back()) <= ' ') commit.pop_back();
  const auto named = std::ranges::find_if(
      snapshots, [&](const fs::path& each) { return each.filename() == commit; });
  return named == snapshots.end() ? fs::path() : *named;
}

/// The folder of a hub cache, and `snapshots` in one: refused with the folder to take.
void RefuseHubCache(const fs::path& folder) {
  const fs::path clean = folder.has_filename() ? folder : folder.parent_path();
  const bool inside = clean.filename() == "snapshots";
  const fs::path repository = inside ? clean.parent_path() : clean;
  if (!Exists(repository / "snapshots")) return;
  const std::string expected = "the folder of one snapshot, in snapshots/";
  const fs::path snapshot = SnapshotOf(repository);
  if (!snapshot.empty()) {
    Fail("a repository of the hub's cache, not a model folder", folder, expected, "snapshots",
         "give " + Quoted(snapshot));
  }
  const std::vector<fs::path> all = FoldersWith(repository / "snapshots", "config.json");
  if (all.empty()) {
    Fail("a repository of the hub's cache without a whole model", folder, expected,
         "no snapshot with config.json", "download the model again: hf download OWNER/NAME");
  }
  std::vector<std::string> names;
  for (const fs::path& each : all) names.push_back(each.filename().string());
  Fail("a repository of the hub's cache, not a model folder", folder, expected, Listed(names),
       "give one of them, such as " + Quoted(all.front()));
}

/// A folder without config.json that holds GGUF files, or folders with models: which to give.
void RefuseFolderOfModels(const fs::path& folder) {
  std::vector<std::string> files = FileNames(folder);
  std::erase_if(files, [](const std::string& name) { return !name.ends_with(".gguf"); });
  if (!files.empty()) {
    Fail(files.size() == 1 ? "a folder that holds a GGUF file" : "a folder of GGUF files", folder,
         "the file itself, or a folder with config.json", Listed(files),
         (files.size() == 1 ? "give " : "give one of them, such as ") +
             Quoted(folder / files.front()));
  }
  std::vector<std::string> models;
  for (const std::string_view sign : {"config.json", "snapshots"}) {  // the latter of a hub cache
    for (const fs::path& each : FoldersWith(folder, sign)) {
      models.push_back(each.filename().string());
    }
  }
  if (models.empty()) return;
  Fail(models.size() == 1 ? "a folder that holds a model folder" : "a folder of model folders",
       folder, "the folder with config.json itself", Listed(models),
       (models.size() == 1 ? "give " : "give one of them, such as ") +
           Quoted(folder / models.front()));
}

bool HasWeights(const fs::path& folder) {
  return Exists(folder / kSingleFile) || Exists(folder / kIndexFile);
}

/// With or without a config.json that was copied to it.
void RefuseAdapter(const fs::path& folder) {
  if (!Exists(folder / kAdapterConfig) || HasWeights(folder)) return;
  std::string base = "BASE";
  try {
    const Json json = ReadJson(folder / kAdapterConfig);
    const Json name = json.is_object() ? json.value("base_model_name_or_path", Json()) : Json();
    if (name.is_string() && !name.get_ref<const std::string&>().empty() &&
        name.get_ref<const std::string&>().find_first_of("'\"\\$`") == std::string::npos) {
      base = Printable(name.get_ref<const std::string&>());
    }
  } catch (const Error&) {  // its name is a help, no more
  }
  Fail("an adapter (LoRA), not a model", folder, "the model that it was merged into",
       std::string(kAdapterConfig),
       "merge it into its base model first, where peft is installed: python3 -c \"from peft import "
       "PeftModel as P; from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
       "P.from_pretrained(M.from_pretrained('" +
           base + "', torch_dtype='auto'), '" + folder.string() +
           "').merge_and_unload().save_pretrained('MERGED'); T.from_pretrained('" + base +
           "').save_pretrained('MERGED')\", and give MERGED");
}

}  // namespace

void RequireModelFolder(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) NoSuchFolder(folder);
  if (!fs::is_directory(folder, error)) {
    const fs::path parent = folder.parent_path().empty() ? "." : folder.parent_path();
    Fail("not a folder", folder, "the folder that holds config.json and the weights", "a file",
         Exists(parent / "config.json") ? "give " + Quoted(parent) : "");
  }
  RefuseAdapter(folder);
  if (Exists(folder / "config.json")) return;
  RefuseHubCache(folder);
  if (Exists(folder / "params.json")) {
    Fail("config.json is missing", folder, "config.json of a Hugging Face model", "params.json",
         "these are weights in Meta's own layout: take the Hugging Face version of the model");
  }
  RefuseFolderOfModels(folder);
  Fail("config.json is missing", folder, "config.json of a Hugging Face model", "no such file",
       HasWeights(folder) ? "copy config.json of the model that the weights are of beside them"
                          : "");
}

bool HasAdapter(const fs::path& folder) {
  return Exists(folder / kAdapterConfig) || Exists(folder / "adapter_model.safetensors") ||
         Exists(folder / "adapter_model.bin");
}

}  // namespace lieq
