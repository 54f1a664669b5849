// Whole GPTQ folders, versions 1 and 2, with rules for single modules.
#include "fuzz/folder_input.h"

namespace lieq {
namespace {

void AddModule(FolderInput& folder, const std::string& module, std::uint64_t rows,
               std::uint64_t cols, std::uint64_t bits, std::uint64_t groups, bool first_version,
               FuzzInput& input) {
  const auto words = [&](std::uint64_t count) { return count * bits / 32; };
  folder.Add(module + ".qweight", "I32", {words(cols), rows},
             FolderInput::Bytes(4 * words(cols) * rows, input));
  // The middle of the codes, so that both versions and symmetric grids have it.
  const std::uint64_t zero = (std::uint64_t{1} << (bits - 1)) - (first_version ? 1 : 0);
  std::string zeros(4 * groups * words(rows), '\0');
  for (std::uint64_t group = 0; group < groups; ++group) {
    for (std::uint64_t i = 0; i < rows * bits; ++i) {
      const std::uint64_t at = group * words(rows) * 32 + i;
      if ((zero >> (i % bits) & 1) != 0) {
        zeros[at / 8] = static_cast<char>(zeros[at / 8] | 1 << at % 8);
      }
    }
  }
  folder.Add(module + ".qzeros", "I32", {groups, words(rows)}, std::move(zeros));
  constexpr std::array<const char*, 3> kScales{"F16", "BF16", "F32"};
  const std::uint32_t scale = input.Below(3);
  folder.Add(module + ".scales", kScales[scale], {groups, rows},
             FolderInput::Bytes((scale == 2 ? 4 : 2) * groups * rows, input));
  if (input.Below(2) == 0) return;
  std::string order;
  for (std::uint64_t col = 0; col < cols; ++col) {
    order += static_cast<char>(col / (cols / groups));
    order.append(3, '\0');
  }
  folder.Add(module + ".g_idx", "I32", {cols}, std::move(order));
}

FolderInput Assemble(FuzzInput& input) {
  constexpr std::array<std::uint64_t, 4> kBits{4, 2, 8, 3};
  const std::uint64_t bits = kBits[input.Below(4)], other = kBits[input.Below(4)];
  const std::uint64_t step = bits == 3 || other == 3 ? 32 : 16;
  const bool first_version = input.Below(2) == 0, grouped = input.Below(2) == 1;
  FolderInput folder(input, step);
  const bool head = !folder.tied && input.Below(2) == 1;
  folder.config["quantization_config"] = {
      {"quant_method", "gptq"},
      {"bits", bits},
      {"group_size", grouped ? Record(step) : Record(-1)},
      {"sym", input.Below(2) == 0},
      {"desc_act", false},
      {"checkpoint_format", first_version ? "gptq" : "gptq_v2"},
      {"lm_head", head},
      {"dynamic",
       {{"-:.*skipped", Record::object()},
        {"+:^model\\.layers\\.0\\.mlp\\.(?:gate|up)_proj", {{"bits", other}, {"sym", false}}}}}};
  const auto add = [&](const std::string& module, std::uint64_t rows, std::uint64_t cols) {
    const bool ruled = module.starts_with("model.layers.0.mlp.") && !module.ends_with("down_proj");
    AddModule(folder, module, rows, cols, ruled ? other : bits, grouped ? cols / step : 1,
              first_version, input);
  };
  folder.ForEachLinear(add);
  if (head) {
    folder.tensors.erase(std::ranges::find(folder.tensors, "lm_head.weight", &FolderTensor::name));
    add("lm_head", folder.vocab, folder.hidden);
  }
  return folder;
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lieq::FuzzFolder(data, size, "quantization_config", lieq::Assemble);
  return 0;
}
