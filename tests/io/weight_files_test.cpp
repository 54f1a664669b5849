#include "lieq/io/weight_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"
#include "tests/support/error_of.h"
#include "tests/support/raw_tensors.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::vector<RawTensor> Tensors() {
  return {Raw<float>("a", DType::kF32, {2, 2}, {1, 2, 3, 4}),
          Raw<float>("b", DType::kF32, {3}, {5, 6, 7})};
}

/// A folder with an index of two shards, "a" and "b", and model.safetensors.
class TwoWeightFiles : public testing::Test {
 protected:
  TwoWeightFiles() {
    const std::vector<RawTensor> tensors = Tensors();
    WriteRaw(folder_ / "model-00001-of-00002.safetensors", {tensors[0]});
    WriteRaw(folder_ / "model-00002-of-00002.safetensors", {tensors[1]});
    WriteText(folder_ / "model.safetensors.index.json",
              R"({"weight_map": {"a": "model-00001-of-00002.safetensors",
                                 "b": "model-00002-of-00002.safetensors"}})");
  }
  std::string ErrorWith(const std::vector<RawTensor>& single) {
    WriteRaw(folder_ / "model.safetensors", single);
    return ErrorOf([&] { return TensorFile::OpenFolder(folder_.path()); });
  }
  TempFolder folder_;
};

TEST_F(TwoWeightFiles, OpenWhereTheyHoldTheSame) {
  EXPECT_THAT(ErrorWith(Tensors()), IsEmpty());
}

TEST_F(TwoWeightFiles, AreRefusedWithBothNamedWhereTheyDiffer) {
  const auto both = [](const char* tensor) {
    return AllOf(HasSubstr("model.safetensors: tensor '" + std::string(tensor) + "'"),
                 HasSubstr("model.safetensors.index.json"), HasSubstr("two models"));
  };
  std::vector<RawTensor> tensors = Tensors();
  tensors[1].bytes[3] ^= std::byte{1};
  EXPECT_THAT(ErrorWith(tensors), AllOf(both("b"), HasSubstr("model-00002-of-00002")));

  tensors = Tensors();
  tensors[0].spec.shape = {4};
  EXPECT_THAT(ErrorWith(tensors), AllOf(both("a"), HasSubstr("F32 [2, 2]"), HasSubstr("F32 [4]")));

  tensors = Tensors();
  tensors.push_back(Raw<float>("c", DType::kF32, {1}, {0}));
  EXPECT_THAT(ErrorWith(tensors), both("c"));

  tensors = Tensors();
  tensors.pop_back();
  EXPECT_THAT(ErrorWith(tensors), AllOf(both("b"), HasSubstr("alone")));
}

TEST_F(TwoWeightFiles, MayBeOneThatTheIndexNames) {
  WriteText(folder_ / "model.safetensors.index.json",
            R"({"weight_map": {"a": "model.safetensors", "b": "model.safetensors"}})");
  EXPECT_THAT(ErrorWith(Tensors()), IsEmpty());
}

TEST_F(TwoWeightFiles, NameTheOneThatIsThereWhereShardsAreMissing) {
  std::filesystem::remove(folder_ / "model-00002-of-00002.safetensors");
  const auto error = [&] {
    return ErrorOf([&] { return TensorFile::OpenFolder(folder_.path()); });
  };
  EXPECT_THAT(error(), AllOf(HasSubstr("a shard is missing"), HasSubstr("model-00001-of-00002"),
                             HasSubstr("incomplete")));
  WriteText(folder_ / "model-00002-of-00002 (1).safetensors", "x");
  EXPECT_THAT(error(), HasSubstr("model-00002-of-00002 (1).safetensors"));
  EXPECT_THAT(ErrorWith(Tensors()),
              AllOf(HasSubstr("a shard is missing"), HasSubstr("model.safetensors is there"),
                    HasSubstr("delete model.safetensors.index.json")));
}

struct Other {
  std::string file;
  std::string word;
};

TEST(OpenFolder, NamesWhatIsThereInPlaceOfWeights) {
  for (const Other& other :
       {Other{"model-00001-of-00003.safetensors", "shards without their index"},
        Other{"consolidated.safetensors", "Meta and Mistral"},
        Other{"m.gguf", "give the file itself"}, Other{"pytorch_model.bin", "save_pretrained"},
        Other{"weights.safetensors", "rename"}, Other{"adapter_model.safetensors", "merge it"},
        Other{"tf_model.h5", "TensorFlow"}, Other{"flax_model.msgpack", "Flax"},
        Other{"model.safetensors.part", "did not end"}}) {
    const TempFolder folder;
    WriteText(folder / other.file, "x");
    const std::string error = ErrorOf([&] { return TensorFile::OpenFolder(folder.path()); });
    EXPECT_THAT(error, AllOf(HasSubstr(other.file), HasSubstr(other.word), Not(HasSubstr("FILE")),
                             Not(HasSubstr("FOLDER"))))
        << error;
  }
}

TEST(LfsPointer, IsNamedInEveryFileOfAModel) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 124190\n";
  const TempFolder folder;
  for (const char* name : {"model.safetensors.index.json", "model.safetensors"}) {
    WriteText(folder / name, pointer);
    EXPECT_THAT(ErrorOf([&] { return TensorFile::OpenFolder(folder.path()); }),
                AllOf(HasSubstr(name), HasSubstr("git lfs pull")));
    std::filesystem::remove(folder / name);
  }
  EXPECT_THAT(ErrorOf([&] { return ParseJson(pointer, "tokenizer.json"); }),
              AllOf(HasSubstr("tokenizer.json: a Git LFS pointer"), HasSubstr("git lfs pull")));
  EXPECT_THAT(ErrorOf([&] { return ParseRecord(pointer, "config.json"); }),
              HasSubstr("git lfs pull"));
}

TEST(WebPage, IsNamedInPlaceOfJson) {
  for (const char* page : {"<!DOCTYPE html>\n<html>", "\n<html lang=\"en\">", "<!doctype HTML>"}) {
    EXPECT_THAT(ErrorOf([&] { return ParseJson(page, "config.json"); }),
                AllOf(HasSubstr("config.json: a web page"), HasSubstr("download")));
  }
  EXPECT_THAT(ErrorOf([&] { return ParseJson("<xml>", "config.json"); }),
              HasSubstr("not valid JSON"));
}

}  // namespace
}  // namespace lieq
