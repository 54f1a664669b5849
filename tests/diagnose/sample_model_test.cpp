// The diagnostics on a trained model, from its files on.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>

#include "lieq/base/files.h"
#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/text/tokenizer.h"
#include "lieq/text/windows.h"
#include "tests/support/places.h"

namespace lieq {
namespace {

TEST(SampleModel, IsCompactAndMissesEveryLayer) {
  const std::filesystem::path root = LIEQ_SOURCE_DIR;
  const auto folder = root / "models" / "sample";
  const auto file = root / "models" / "texts" / "evaluation.txt";
  if (!std::filesystem::exists(folder / "config.json") || !std::filesystem::exists(file)) {
    GTEST_SKIP() << folder << " or " << file << " is not there";
  }
  const ModelFolder model = OpenModel(folder);
  const Tokenizer tokenizer = Tokenizer::Open(folder / "tokenizer.json");
  const Windows windows = CutWindows(tokenizer.Encode(ReadText(file)), 256, 3, file.string());
  ThreadPool pool(2);
  const auto device = MakeCpuDevice(pool);
  Log log;
  Progress progress;
  Context context{pool, log, progress, {}};
  Diagnosis diagnosis;

  MeasureSpectra(model.weights, *device, windows.view(), {}, context, diagnosis);
  MeasurePerplexityDrop(model.weights, *device, windows.view(), context, diagnosis);

  EXPECT_LT(*diagnosis.base_perplexity, 200) << "the model knows nothing of this text";
  ASSERT_EQ(static_cast<Index>(diagnosis.layers.size()), model.weights.config.layers);
  for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) {
    const LayerDiagnosis& layer = diagnosis.layers[i];
    EXPECT_GT(*layer.nll_drop, 0) << "layer " << i << " does harm";
    EXPECT_GT(*layer.compactness, 0.1) << "layer " << i << " looks untrained";
    EXPECT_LT(*layer.compactness, 1) << i;
    EXPECT_GT(*layer.top_k_energy, 0) << i;
  }
  const auto worst = std::ranges::max_element(
      diagnosis.layers, {}, [](const LayerDiagnosis& layer) { return *layer.nll_drop; });
  EXPECT_EQ(worst, diagnosis.layers.begin()) << "the first layer is the one that no model can miss";
}

}  // namespace
}  // namespace lieq
