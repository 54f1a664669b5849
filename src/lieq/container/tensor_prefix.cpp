#include "lieq/container/tensor_prefix.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

constexpr std::string_view kModel = "model.";
constexpr std::string_view kLayer = "layers.0.";

struct Prefix {
  std::string_view text;
  std::string_view meaning;
  bool read;              // where every tensor has it: the rest of the name says what it is
  std::string_view hint;  // where it is not read
};

constexpr std::string_view kMergeAdapter =
    "merge the adapter into its base model (peft: merge_and_unload(), then save_pretrained())";
constexpr std::string_view kTextModel =
    "save the text model alone, with transformers: m = AutoModelForImageTextToText"
    ".from_pretrained(FOLDER); m.language_model.save_pretrained(OUT)";

constexpr std::array kPrefixes{
    Prefix{"_orig_mod.", "a model saved through torch.compile", true, {}},
    Prefix{"module.", "a model saved through DataParallel", true, {}},
    Prefix{"_fsdp_wrapped_module.", "a model saved through FSDP", true, {}},
    Prefix{"_forward_module.", "a model saved through a trainer", true, {}},
    Prefix{"base_model.model.", "a model wrapped by PEFT (LoRA)", true, kMergeAdapter},
    Prefix{"language_model.", "the text part of a model that also sees or hears", true, kTextModel},
    Prefix{"text_model.", "the text part of a model that also sees or hears", false, kTextModel},
    Prefix{"transformer.", "a model of another architecture (GPT-2 and its kin)", false,
           "take a model of an architecture that is read, with its own config.json"},
    Prefix{"decoder.", "the decoder of a model of another architecture", false,
           "take a model of an architecture that is read, with its own config.json"},
};

/// A part of a name that says what the tensor is there for.
struct Sign {
  std::string_view part;
  std::string_view meaning;
};
constexpr std::array kSigns{
    Sign{"lora_",
         "parts of an adapter (LoRA) that is not merged: merge it into its base model "
         "first (peft: merge_and_unload(), then save_pretrained())"},
    Sign{".base_layer.",
         "a model wrapped by PEFT with its adapter: merge it first (peft: "
         "merge_and_unload(), then save_pretrained())"},
    Sign{"vision", "parts of a model that also sees: save its text model alone"},
    Sign{"visual.", "parts of a model that also sees: save its text model alone"},
    Sign{"multi_modal_projector", "parts of a model that also sees: save its text model alone"},
    Sign{".experts.", "a mixture of experts, whose arithmetic is another"},
    Sign{".absmax", "weights quantized by bitsandbytes: start from the float model"},
    Sign{".quant_map", "weights quantized by bitsandbytes: start from the float model"},
    Sign{".SCB", "weights quantized by bitsandbytes: start from the float model"},
    Sign{".weight_scale",
         "weights quantized (fp8, compressed-tensors), without the "
         "quantization_config that says how: copy the config.json they came with"},
    Sign{".qweight",
         "weights quantized (GPTQ, AWQ), without the quantization_config that says "
         "how: copy the config.json they came with"},
    Sign{".qzeros",
         "weights quantized (GPTQ, AWQ), without the quantization_config that says "
         "how: copy the config.json they came with"},
    Sign{"score.", "the head of a classifier in place of the one of a language model"},
    Sign{"v_head.", "the head of a reward model beside the one of a language model"},
    Sign{"rotary_emb.", "tables of another rotary embedding"},
};

/// What stands before "layers.0." in the first name that has it; nothing where none has.
const std::string* FirstLayerName(const TensorFile& file, std::string& prefix) {
  for (const auto& [name, tensor] : file.tensors()) {
    const std::size_t at = name.find(kLayer);
    if (at == std::string::npos || (at > 0 && name[at - 1] != '.')) continue;
    const std::string_view rest = std::string_view(name).substr(at + kLayer.size());
    if (!rest.starts_with("self_attn.") && !rest.starts_with("mlp.") &&
        !rest.starts_with("input_layernorm")) {
      continue;
    }
    prefix = name.substr(0, at);
    return &name;
  }
  return nullptr;
}

/// The row that a prefix begins with, the longest; one behind "model." says what is meant too.
const Prefix* FindPrefix(std::string_view text) {
  const Prefix* best = nullptr;
  for (const Prefix& row : kPrefixes) {
    const bool inside =
        text.starts_with(kModel) && text.substr(kModel.size()).starts_with(row.text);
    if (!text.starts_with(row.text) && !inside) continue;
    if (best == nullptr || row.text.size() > best->text.size()) best = &row;
  }
  return best;
}

[[noreturn]] void Refuse(const TensorFile& file, const std::string& name, const Prefix* row,
                         const std::string& why) {
  std::string what = "names of tensors have a prefix that is not read";
  std::string hint = "rename the tensors, or take the model as its makers published it";
  if (row != nullptr) {
    what = "names of tensors have the prefix '" + std::string(row->text) + "', which means " +
           std::string(row->meaning);
    if (!row->hint.empty()) hint = row->hint;
  }
  throw Error({.what = std::move(what),
               .where = file.path().string(),
               .expected = "names such as 'model.layers.0.self_attn.q_proj.weight'",
               .found = "'" + Printable(name) + "'" + why,
               .hint = std::move(hint)});
}

}  // namespace

std::vector<std::string> NormalizeNames(TensorFile& file) {
  std::string prefix;
  const std::string* layer = FirstLayerName(file, prefix);
  if (layer == nullptr || prefix == kModel) return {};

  // Wrappers may lie in one another; what they wrap begins with "model." or, of a body, nothing.
  std::string_view inner = prefix;
  std::vector<std::string> notes;
  while (!inner.empty() && inner != kModel) {
    const Prefix* row = FindPrefix(inner);
    if (row == nullptr || !row->read || !inner.starts_with(row->text)) {
      Refuse(file, *layer, row, "");
    }
    inner.remove_prefix(row->text.size());
    notes.push_back("names of tensors have the prefix '" + std::string(row->text) + "' (" +
                    std::string(row->meaning) + "): read without it");
  }
  const std::string outer = prefix.substr(0, prefix.size() - inner.size());
  for (const auto& [name, tensor] : file.tensors()) {
    const bool adapter =
        name.find("lora_") != std::string::npos || name.find(".base_layer.") != std::string::npos;
    if (outer.empty() || (name.starts_with(outer) && !adapter)) continue;
    Refuse(file, name, FindPrefix(prefix), " beside '" + Printable(*layer) + "'");
  }
  const bool body = inner.empty();
  if (body) {
    notes.push_back(
        "names of tensors lack 'model.' (the body of a model saved without its head): "
        "read as if it were there");
  }
  file.Rename([&](const std::string& name) {
    std::string rest = name.substr(outer.size());
    const bool inside = rest.starts_with("layers.") || rest.starts_with("embed_tokens.") ||
                        rest.starts_with("norm.") || rest.starts_with("rotary_emb.");
    return body && inside ? std::string(kModel) + rest : rest;
  });
  return notes;
}

std::string MeaningOf(const std::string& name) {
  for (const Sign& sign : kSigns) {
    if (name.find(sign.part) != std::string::npos) return std::string(sign.meaning);
  }
  return {};
}

}  // namespace lieq
