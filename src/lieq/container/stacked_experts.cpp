#include "lieq/container/stacked_experts.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

constexpr std::string_view kSingle = ".mlp.experts.", kSwitch = ".mlp.switch_mlp.";

/// How a stacked tensor is named, and what one expert's share of it is: parts side by side.
struct Stack {
  std::string_view ending;
  std::array<std::string_view, 2> parts;  // the second may be empty
};
constexpr std::array kStacks{
    Stack{".mlp.experts.gate_up_proj", {"gate_proj.weight", "up_proj.weight"}},
    Stack{".mlp.experts.down_proj", {"down_proj.weight", ""}},
};

/// The name of one expert's, and its rows among those of the expert.
struct Share {
  std::string ending;
  std::size_t part = 0, parts = 1;
};

/// What a name stands for: [before ".mlp."] and the shares of an expert; none: not stacked.
std::vector<Share> SharesOf(const std::string& name, std::string& layer) {
  if (const std::size_t at = name.find(kSwitch); at != std::string::npos) {
    layer = name.substr(0, at);
    return {{.ending = name.substr(at + kSwitch.size())}};
  }
  for (const Stack& stack : kStacks) {
    if (!name.ends_with(stack.ending)) continue;
    layer = name.substr(0, name.size() - stack.ending.size());
    std::vector<Share> shares{{.ending = std::string(stack.parts[0])}};
    if (stack.parts[1].empty()) return shares;
    shares.push_back({.ending = std::string(stack.parts[1]), .part = 1, .parts = 2});
    shares.front().parts = 2;
    return shares;
  }
  return {};
}

}  // namespace

std::vector<std::string> SplitExperts(TensorFile& file, const ModelConfig& config) {
  if (!config.HasExperts()) return {};
  const Index experts = config.experts.count;
  std::vector<TensorRef> all;
  bool split = false;
  for (const auto& [name, tensor] : file.tensors()) {
    std::string layer;
    const std::vector<Share> shares = SharesOf(name, layer);
    if (shares.empty()) {
      all.push_back(tensor);
      continue;
    }
    split = true;
    const auto parts = static_cast<std::int64_t>(shares.front().parts);
    if (tensor.shape.size() != 3 || tensor.shape[0] != experts || tensor.shape[1] % parts != 0) {
      throw Error({.what = "not a tensor of all experts",
                   .where = tensor.file.string() + ": tensor '" + Printable(name) + "'",
                   .expected = "three dimensions, of " + std::to_string(experts) + " experts",
                   .found = Describe(tensor.dtype, tensor.shape)});
    }
    const std::size_t bytes = tensor.bytes.size() / Size(experts * parts);
    for (Index expert = 0; expert < experts; ++expert) {
      for (const Share& share : shares) {
        TensorRef one = tensor;
        one.name = layer + std::string(kSingle) + std::to_string(expert) + "." + share.ending;
        one.shape = {tensor.shape[1] / parts, tensor.shape[2]};
        one.bytes = tensor.bytes.subspan((Size(expert * parts) + share.part) * bytes, bytes);
        all.push_back(std::move(one));
      }
    }
  }
  if (!split) return {};
  file = TensorFile::Of(file.path(), std::move(all), file.maps());
  return {"experts lie in one tensor: read as if each had its own"};
}

std::string SwitchModule(const std::string& module) {
  const std::size_t at = module.find(kSingle);
  if (at == std::string::npos) return module;
  const std::size_t number = at + kSingle.size(), end = module.find('.', number);
  if (end == std::string::npos) return module;
  return module.substr(0, at) + std::string(kSwitch) + module.substr(end + 1);
}

}  // namespace lieq
