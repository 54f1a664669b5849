#include "lieq/pipeline/transforming.h"

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/container/float_folder.h"
#include "lieq/quantize/quantizers.h"
#include "lieq/transform/model_transformer.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

/// {"qkv": {"choice": "0.45", "error": 1.5, "error_without": 2.0}, ...}; empty where none was made.
Record ChoicesToJson(const LayerChoices& choices) {
  Record json = Record::object();
  for (const Unit unit : kAllUnits) {
    const UnitChoice& choice = choices[static_cast<std::size_t>(unit)];
    if (choice.choice.empty()) continue;
    json[std::string(Name(unit))] = {
        {"choice", choice.choice}, {"error", choice.after}, {"error_without", choice.before}};
  }
  return json;
}

}  // namespace

TransformList TransformsOf(std::vector<std::string> names, std::string_view method) {
  const Quantizer& quantizer = FindQuantizer(method);
  if (!quantizer.transform.empty()) names.emplace_back(quantizer.transform);
  return ResolveTransforms(names);
}

std::vector<std::string> TransformSet(const std::string& text) {
  std::vector<std::string> names;
  if (text == "none") return names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('+', begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  (void)ResolveTransforms(names);
  return names;
}

Record NamesOf(const TransformList& rows) {
  Record names = Record::array();
  for (const Transform* row : rows) names.push_back(row->name);
  return names;
}

TransformedModel TransformModel(const ModelFolder& source, const TransformList& rows,
                                std::uint64_t seed, Clip clip, const LayerGrids& grids,
                                const Windows& windows, const fs::path& folder, Session& session) {
  const fs::path record_file = folder / "transforms.json";
  if (fs::exists(folder / "model.safetensors")) {
    try {
      return {.model = OpenFloatFolder(folder, source), .record = ReadRecord(record_file)};
    } catch (const Error& error) {  // cut on its way to the disk
      session.log().Warning("the transformed model of " + folder.string() +
                            " cannot be read and is made again: " + error.problem().what);
    }
  }
  Record record = Record::array();
  for (const Transform* row : rows) record.push_back({{"name", row->name}});
  ModelTransformer transformer(source.weights, session.device(), rows,
                               {.seed = seed, .norm_type = source.dtype, .clip = clip},
                               windows.view(), session.context());
  FloatFolderWriter writer(source, Unties(rows), folder);
  writer.Ends(transformer.ends() ? &*transformer.ends() : nullptr);
  const Index layers = source.weights.config.layers;
  Progress& progress = session.context().progress;
  progress.Begin("transforming", "layer", layers);
  for (Index layer = 0; layer < layers; ++layer) {
    const TransformedLayer next = transformer.Next(grids[Size(layer)]);
    writer.Layer(layer, next.layer);
    for (std::size_t row = 0; row < rows.size(); ++row) {
      Record choices = ChoicesToJson(next.choices[row]);
      if (!choices.empty()) record[row]["layers"].push_back(std::move(choices));
    }
    progress.Update(layer + 1);
  }
  progress.End();
  WriteFileAtomically(record_file, record.dump(2) + "\n");  // before the weights: they are last
  writer.Commit();
  return {.model = OpenFloatFolder(folder, source), .record = std::move(record)};
}

std::int64_t TransformedBytes(const ModelConfig& config) noexcept {
  return 4 * (config.WeightCount() + 2 * config.vocab * config.hidden);
}

}  // namespace lieq
