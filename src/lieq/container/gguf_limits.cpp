#include "lieq/container/gguf_limits.h"

#include <string>

#include "lieq/model/architectures.h"

namespace lieq {

std::optional<Problem> WhyNoGguf(const ModelConfig& config) {
  const auto because = [&](std::string what, std::string expected) {
    return Problem{.what = std::move(what),
                   .where = "--to gguf",
                   .expected = std::move(expected),
                   .found = config.architecture};
  };
  const bool llama = config.architecture == "LlamaForCausalLM";
  const bool qwen2 = config.architecture == "Qwen2ForCausalLM";
  const Architecture* row = FindArchitecture(config.architecture);
  if (row == nullptr || row->gguf_name.empty()) {
    return because("GGUF files of this architecture are not written yet", "another container");
  }
  if (config.rope.scaling == RopeScaling::kLlama3 && !llama) {
    return because("llama3 rope outside of a llama", "LlamaForCausalLM");
  }
  if (config.rope.scaling == RopeScaling::kLinear || config.rope.scaling == RopeScaling::kYarn) {
    return because("rope scaling " + std::string(Name(config.rope.scaling)) + " is not written yet",
                   "default or llama3");
  }
  for (Index layer = 0; layer < config.layers; ++layer) {
    const LayerShape shape = config.Shape(layer);
    if (shape.window > 0) return because("sliding windows are not written yet", "whole contexts");
    // llama.cpp leaves out every fourth rotation of smollm3, and none of others.
    const bool rotates = !row->skips_rotations || (layer + 1) % 4 != 0;
    if (shape.rotates != rotates) {
      return because("layers rotate otherwise than llama.cpp has it", "every fourth layer without");
    }
  }
  if ((config.qkv_bias && !llama && !qwen2) || ((config.o_bias || config.mlp_bias) && !llama)) {
    return because("llama.cpp reads no such biases in this architecture", "a model without them");
  }
  return std::nullopt;
}

}  // namespace lieq
