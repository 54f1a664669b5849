#include "lieq/io/weight_files.h"

#include <algorithm>
#include <system_error>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

/// A kind of file that holds weights, but is not read under this name.
struct OtherWeights {
  bool (*is)(std::string_view name);
  std::string_view what;
  std::string_view hint;  // FOLDER stands for the folder, FILE for the file's name
};

bool IsShardName(std::string_view name) {
  return name.starts_with("model-") && name.find("-of-") != std::string_view::npos &&
         name.ends_with(".safetensors");
}

constexpr OtherWeights kOtherWeights[] = {
    {IsShardName, "shards without their index",
     "download model.safetensors.index.json beside them, or, if FILE is the whole model, rename it "
     "to model.safetensors"},
    {[](std::string_view name) { return name == "adapter_model.safetensors"; },
     "no weights of a model, an adapter alone", "merge it into its base model first"},
    {[](std::string_view name) {
       return name.starts_with("consolidated") && name.ends_with(".safetensors");
     },
     "weights are in the layout of Meta and Mistral, whose tensors have other names",
     "take the model's files in the layout of Hugging Face (model*.safetensors)"},
    {[](std::string_view name) {
       return (name.starts_with("pytorch_model") && name.ends_with(".bin")) ||
              name.ends_with(".pth");
     },
     "weights are in PyTorch's pickle format, which can run code when read",
     "convert once where transformers is installed: python3 -c \"from transformers import "
     "AutoModelForCausalLM as M; M.from_pretrained('FOLDER', "
     "torch_dtype='auto').save_pretrained('OUT', safe_serialization=True)\""},
    {[](std::string_view name) { return name.ends_with(".gguf"); },
     "no weights in the folder beside its config.json, but a GGUF file",
     "give the file itself: FOLDER/FILE"},
    {[](std::string_view name) { return name.ends_with(".safetensors"); },
     "weights have another name", "rename FILE to model.safetensors if it is the whole model"},
    {[](std::string_view name) { return name.ends_with(".h5") || name.ends_with(".msgpack"); },
     "weights are those of TensorFlow or Flax", "take the model's files in safetensors"},
    {[](std::string_view name) {
       return name.ends_with(".crdownload") || name.ends_with(".part") ||
              name.ends_with(".incomplete");
     },
     "a download that did not end", "download the model again"},
};

void Replace(std::string& text, std::string_view from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

}  // namespace

std::vector<std::string> FileNames(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.is_regular_file(error)) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void RefuseWithoutWeights(const std::filesystem::path& folder) {
  const std::vector<std::string> names = FileNames(folder);
  const std::string expected = std::string(kSingleFile) + " or " + std::string(kIndexFile);
  for (const OtherWeights& kind : kOtherWeights) {
    const auto found = std::ranges::find_if(names, kind.is);
    if (found == names.end()) continue;
    const auto count = std::ranges::count_if(names, kind.is);
    std::string hint(kind.hint);
    Replace(hint, "FOLDER", Printable(folder.string()));
    Replace(hint, "FILE", Printable(*found));
    throw Error({.what = std::string(kind.what),
                 .where = folder.string(),
                 .expected = expected,
                 .found = Printable(*found) +
                          (count > 1 ? " and " + std::to_string(count - 1) + " more" : ""),
                 .hint = std::move(hint)});
  }
  throw Error({.what = "no weights in the folder",
               .where = folder.string(),
               .expected = expected,
               .found = "neither",
               .hint = "the folder may be incomplete: copy or download it again"});
}

std::string MissingShardHint(const std::filesystem::path& folder) {
  std::vector<std::string> others;
  for (const std::string& name : FileNames(folder)) {
    if (name == kSingleFile) {
      return "model.safetensors is there: if it is the whole model, delete " +
             std::string(kIndexFile) + ", which is of another";
    }
    if (name.ends_with(".safetensors") || name.ends_with(".bin") || name.ends_with(".gguf")) {
      others.push_back(Printable(name));
    }
  }
  std::string hint = "the folder may be incomplete: copy or download it again";
  if (others.empty()) return hint;
  hint += "; of weights it holds " + others.front();
  for (std::size_t i = 1; i < std::min<std::size_t>(others.size(), 3); ++i)
    hint += ", " + others[i];
  if (others.size() > 3) hint += " and " + std::to_string(others.size() - 3) + " more";
  return hint;
}

void RequireSameTensors(const TensorFile& single, const TensorFile& shards) {
  const auto refuse = [&](const std::string& tensor, std::string expected, std::string found) {
    throw Error(
        {.what = "model.safetensors and the shards of the index are two models",
         .where = (single.path() / kSingleFile).string() + ": tensor '" + Printable(tensor) + "'",
         .expected = std::move(expected),
         .found = std::move(found),
         .hint = "transformers loads " + std::string(kSingleFile) + ": delete it, or " +
                 std::string(kIndexFile) + " with its shards, whichever is not meant"});
  };
  const auto drop = [](const TensorFile& file, const TensorRef& tensor) {
    for (const auto& map : file.maps()) map->Drop(tensor.bytes);
  };
  for (const auto& [name, tensor] : single.tensors()) {
    if (!shards.Has(name)) refuse(name, "in a shard too", "in model.safetensors alone");
    const TensorRef& other = shards.At(name);
    const std::string file = other.file.filename().string();
    if (tensor.dtype != other.dtype || tensor.shape != other.shape) {
      refuse(name, Describe(other.dtype, other.shape) + ", as in " + file,
             Describe(tensor.dtype, tensor.shape));
    }
    if (!std::ranges::equal(tensor.bytes, other.bytes)) {
      refuse(name, "the values of " + file, "others");
    }
    drop(single, tensor);
    drop(shards, other);
  }
  for (const auto& [name, tensor] : shards.tensors()) {
    if (single.Has(name)) continue;
    refuse(name, "in model.safetensors too", "in " + tensor.file.filename().string() + " alone");
  }
}

}  // namespace lieq
