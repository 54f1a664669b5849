// `lieq pack`, and the commands that take what it writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class PackCommand : public testing::Test {
 protected:
  PackCommand() {
    MakeTinyModel(folder / "float", {.layers = 2});
    WriteText(folder / "text", "the one and the other, on and on; the other and the one");
    EXPECT_EQ(Lieq({"quantize", Path("float"), "-o", Path("model"), "--method", "rtn", "--uniform",
                    "3", "--embedding-bits", "4", "-q"})
                  .exit,
              0);
  }
  Outcome Lieq(std::vector<std::string> words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Pack(std::vector<std::string> more = {}) {
    std::vector<std::string> words{"pack", Path("model"), "-o", Path("packed")};
    words.insert(words.end(), more.begin(), more.end());
    return Lieq(words);
  }

  TempFolder folder;
};

TEST_F(PackCommand, WhatItWritesWritesTheSameTextWithoutTheModel) {
  const Outcome made = Pack();
  ASSERT_EQ(made.exit, 0) << made.err;
  EXPECT_THAT(made.out, HasSubstr("15 matrices"));
  const auto text = [&](const std::string& model, std::vector<std::string> more) {
    std::vector<std::string> words{"generate", Path(model), "-p", "the", "-n", "12", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Lieq(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return ParseJson(outcome.out, "stdout")["ids"];
  };
  for (const std::string type : {"int8", "int16", "float"}) {
    const Json expected = text("model", {"--kernels", "packed", "--activations", type});
    EXPECT_EQ(text("packed", {"--activations", type}), expected);
    EXPECT_EQ(text("packed", {"--activations", type, "--kernels", "packed-scalar"}), expected);
  }
  EXPECT_EQ(Lieq({"verify", Path("packed"), "--against", Path("model")}).exit, 0);
  EXPECT_EQ(Lieq({"verify", Path("packed")}).exit, 0);
  EXPECT_EQ(Lieq({"verify", Path("model")}).exit, 2);
  fs::rename(folder / "model", folder / "gone");

  EXPECT_EQ(text("packed", {}), text("gone", {"--kernels", "packed"}));
  const Outcome speed = Lieq({"bench", Path("packed"), "-p", "8", "-n", "4", "-r", "1", "--json"});
  ASSERT_EQ(speed.exit, 0) << speed.err;
  const Outcome other = Lieq({"bench", Path("gone"), "-p", "8", "-n", "4", "-r", "1", "--json"});
  EXPECT_EQ(ParseJson(speed.out, "stdout")["weight_bytes"],
            ParseJson(other.out, "stdout")["weight_bytes"]);
}

TEST_F(PackCommand, OtherCommandsAndKernelsSayThatTheyWantTheModel) {
  ASSERT_EQ(Pack({"-q"}).exit, 0);

  const Outcome evaluated = Lieq({"evaluate", Path("packed"), "--text", Path("text")});
  EXPECT_EQ(evaluated.exit, 3);
  EXPECT_THAT(evaluated.err, HasSubstr("the model that it was made from"));
  EXPECT_EQ(Lieq({"inspect", Path("packed")}).exit, 3);
  const Outcome plain = Lieq({"generate", Path("packed"), "-p", "a", "--kernels", "scalar"});
  EXPECT_EQ(plain.exit, 3);
  EXPECT_THAT(plain.err, HasSubstr("--kernels packed"));
}

TEST_F(PackCommand, IsNeverWrittenOverWhatIsNoPackedFile) {
  WriteText(folder / "packed", "somebody's");
  EXPECT_EQ(Pack({"--force"}).exit, 3);
  fs::remove(folder / "packed");
  ASSERT_EQ(Pack({"-q"}).exit, 0);
  EXPECT_EQ(Pack().exit, 3);
  EXPECT_EQ(Pack({"--force"}).exit, 0);
  const Outcome inside = Lieq({"pack", Path("model"), "-o", Path("model/packed")});
  EXPECT_EQ(inside.exit, 3);
  EXPECT_THAT(inside.err, HasSubstr("lies in"));
  const Outcome record = Pack({"--force", "--json"});
  EXPECT_EQ(ParseJson(record.out, "stdout")["bytes"], fs::file_size(folder / "packed"));
}

TEST_F(PackCommand, ADamagedFileIsNotTheModelAnyMore) {
  ASSERT_EQ(Pack({"-q"}).exit, 0);
  std::string bytes = ReadText(folder / "packed");
  bytes[bytes.find("model.layers.0") + bytes.size() / 2] ^= 1;
  WriteText(folder / "packed", bytes);
  EXPECT_EQ(Lieq({"verify", Path("packed"), "--against", Path("model")}).exit, 3);
  const Outcome verified = Lieq({"verify", Path("packed")});
  EXPECT_EQ(verified.exit, 3);
  EXPECT_THAT(verified.err, HasSubstr("lieq pack"));

  bytes.resize(bytes.size() / 2);
  WriteText(folder / "packed", bytes);
  const Outcome cut = Lieq({"generate", Path("packed"), "-p", "a"});
  EXPECT_EQ(cut.exit, 3);
  EXPECT_THAT(cut.err, HasSubstr("lieq pack"));
}

}  // namespace
}  // namespace lieq
