// `lieq chat`, with messages through a pipe.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;

class ChatCommand : public testing::Test {
 protected:
  ChatCommand() {
    MakeTinyModel(folder / "model", {.layers = 2});
    WriteText(folder / "model/tokenizer_config.json",
              R"({"chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n)"
              R"({% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"})");
  }

  /// input: a format of printf.
  Outcome Chat(const std::string& input, const std::string& options = "") {
    const std::string command = "printf '" + input + "' | " + std::string(LIEQ_PROGRAM) + " chat " +
                                (folder / "model").string() + " --temperature 0 -n 8 " + options;
    Running shell({"-c", command}, folder / "out", folder / "err", "/bin/sh");
    const int exit = shell.Wait();
    return {.exit = exit, .out = ReadText(folder / "out"), .err = ReadText(folder / "err")};
  }

  TempFolder folder;
};

TEST_F(ChatCommand, AnswersEachLineAndStartsAnewOnRequest) {
  const Outcome one = Chat("The cat\\n");
  ASSERT_EQ(one.exit, 0) << one.err;
  EXPECT_THAT(one.err, HasSubstr("written"));

  const Outcome twice = Chat("The cat\\n\\n/new\\nThe cat");  // no newline at the end
  EXPECT_EQ(twice.out, one.out + one.out);
  EXPECT_EQ(Chat("The \\\\\\ncat\\n/exit\\nThe cat\\n").out,
            Chat("The \\\\\\ncat\\n").out);  // one message of two lines, and nothing behind /exit
  EXPECT_EQ(Chat("").out, "");
}

TEST_F(ChatCommand, SaysWhatIsWrong) {
  EXPECT_THAT(Chat("/nwe\\n").err, HasSubstr("no such command: /nwe"));
  EXPECT_THAT(Chat("/help\\n").out, HasSubstr("/new"));
  const Outcome long_message = Chat("%0999d\\n", "--context 64");
  EXPECT_EQ(long_message.exit, 3);
  EXPECT_THAT(long_message.err, HasSubstr("longer than the context"));
  std::filesystem::remove(folder / "model/tokenizer_config.json");
  const Outcome without = Chat("hi\\n");
  EXPECT_EQ(without.exit, 3);
  EXPECT_THAT(without.err, HasSubstr("chat template"));
}

}  // namespace
}  // namespace lieq
