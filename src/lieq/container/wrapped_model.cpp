#include "lieq/container/wrapped_model.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "lieq/io/printable.h"
#include "lieq/model/architectures.h"

namespace lieq {
namespace {

constexpr std::array kText{std::string_view("model.language_model."),
                           std::string_view("language_model.model."),
                           std::string_view("language_model.")};
/// Parts beside the text, and what they are for.
constexpr std::array kOthers{
    std::string_view("model.visual."),
    std::string_view("visual."),
    std::string_view("model.vision_tower."),
    std::string_view("vision_tower."),
    std::string_view("model.audio_tower."),
    std::string_view("audio_tower."),
    std::string_view("model.vision_model."),
    std::string_view("vision_model."),
    std::string_view("model.multi_modal_projector."),
    std::string_view("multi_modal_projector."),
};
constexpr std::string_view kDrafts = "mtp.";

std::string TextOf(const Record& config, const char* key) {
  const auto found = config.find(key);
  return found != config.end() && found->is_string() ? found->get<std::string>() : "";
}

/// The wrapper's row, by its class or its type.
const Architecture* FindWrapper(const Record& config) {
  std::string name;
  if (const auto found = config.find("architectures");
      found != config.end() && found->is_array() && found->size() == 1 && (*found)[0].is_string()) {
    name = (*found)[0].get<std::string>();
  }
  const std::string type = TextOf(config, "model_type");
  for (const Architecture& row : Architectures()) {
    if (row.wrapper.empty()) continue;
    if (name == row.wrapper || (name.empty() && type == row.wrapper_type)) return &row;
  }
  return nullptr;
}

}  // namespace

bool UnwrapConfig(Record& config, std::vector<std::string>& notes) {
  if (!config.is_object()) return false;
  const auto text = config.find("text_config");
  const Architecture* wrapper = FindWrapper(config);
  if (wrapper == nullptr || text == config.end() || !text->is_object()) return false;
  const Architecture* row = FindModelType(TextOf(*text, "model_type"));
  if (row == nullptr) row = wrapper;
  Record inner = *text;
  // The wrapper decides what concerns both.
  for (const char* key : {"tie_word_embeddings", "quantization_config", "quantization"}) {
    if (config.contains(key)) inner[key] = config[key];
  }
  for (const char* key : {"dtype", "torch_dtype", "bos_token_id", "eos_token_id", "pad_token_id",
                          "transformers_version"}) {
    if (config.contains(key) && !inner.contains(key)) inner[key] = config[key];
  }
  inner["architectures"] = Record::array({row->name});
  inner["model_type"] = row->model_type;
  notes.push_back("config.json is of a " + std::string(wrapper->wrapper) +
                  ": its text part is read, as " + std::string(row->name));
  config = std::move(inner);
  return true;
}

void UnwrapTensors(bool wrapped, TensorFile& file, std::vector<std::string>& notes) {
  std::set<std::string> out;
  std::set<std::string_view> parts;
  for (const auto& [name, tensor] : file.tensors()) {
    const auto begins = [&name = name](std::string_view prefix) {
      return name.starts_with(prefix);
    };
    const auto part = std::ranges::find_if(kOthers, begins);
    const bool other = wrapped && part != kOthers.end();
    if (!other && !begins(kDrafts)) continue;
    out.insert(name);
    parts.insert(other ? *part : kDrafts);
  }
  for (const std::string& name : out) file.Erase(name);
  if (!out.empty()) {
    std::string names;
    for (const std::string_view part : parts) {
      names += (names.empty() ? "" : ", ") + std::string(part) + "*";
    }
    notes.push_back(std::to_string(out.size()) + " tensors beside the language model (" + names +
                    ") are left out");
  }
  if (!wrapped) return;
  file.Rename([](const std::string& name) {
    for (const std::string_view prefix : kText) {
      if (!name.starts_with(prefix)) continue;
      const std::string rest = name.substr(prefix.size());
      return rest.starts_with("lm_head.") || prefix == "language_model." ? rest : "model." + rest;
    }
    return name;
  });
}

}  // namespace lieq
