// Whole MLX folders, with entries for single modules.
#include "fuzz/folder_input.h"

namespace lieq {
namespace {

FolderInput Assemble(FuzzInput& input) {
  constexpr std::array<std::uint64_t, 4> kBits{4, 2, 8, 3};
  const std::uint64_t bits = kBits[input.Below(4)], other = kBits[input.Below(4)];
  const std::uint64_t step = bits == 3 || other == 3 ? 32 : 16;
  FolderInput folder(input, step);
  const bool embedding = input.Below(2) == 1;
  folder.config["quantization"] = {{"bits", bits},
                                   {"group_size", step},
                                   {"mode", "affine"},
                                   {"model.layers.0.mlp.up_proj", {{"bits", other}}},
                                   {"model.embed_tokens", embedding},
                                   {"lm_head", false}};
  const auto add = [&](const std::string& module, std::uint64_t rows, std::uint64_t cols) {
    const std::uint64_t width = module == "model.layers.0.mlp.up_proj" ? other : bits;
    const std::uint64_t words = cols * width / 32, groups = cols / step;
    folder.Add(module + ".weight", "U32", {rows, words},
               FolderInput::Bytes(4 * rows * words, input));
    constexpr std::array<const char*, 3> kScales{"F16", "BF16", "F32"};
    const std::uint32_t type = input.Below(3);
    const std::uint64_t bytes = (type == 2 ? 4 : 2) * rows * groups;
    folder.Add(module + ".scales", kScales[type], {rows, groups}, FolderInput::Bytes(bytes, input));
    folder.Add(module + ".biases", kScales[type], {rows, groups}, FolderInput::Bytes(bytes, input));
  };
  folder.ForEachLinear(add);
  if (embedding) {
    folder.tensors.erase(folder.tensors.begin());
    add("model.embed_tokens", folder.vocab, folder.hidden);
  }
  return folder;
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lieq::FuzzFolder(data, size, "quantization", lieq::Assemble);
  return 0;
}
