// Talking with a model through the library.
#include "lieq/pipeline/chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stop_token>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/pipeline/generate.h"
#include "lieq/pipeline/requests.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;

class ChatTest : public testing::Test {
 protected:
  ChatTest() {
    MakeTinyModel(folder / "model", {.layers = 2});
    WriteText(folder / "model/tokenizer_config.json",
              R"({"chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n)"
              R"({% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"})");
    request.model = folder / "model";
    request.sampling.temperature = 0;
    request.new_tokens = 12;
  }

  /// What `generate` makes of a chat, from nothing.
  std::string Fresh(Record messages) {
    WriteFileAtomically(folder / "messages.json", messages.dump());
    GenerateRequest generate{.model = request.model, .messages = folder / "messages.json"};
    generate.new_tokens = request.new_tokens;
    return Generate(generate, session).text;
  }
  static Record User(const std::string& text) { return {{"role", "user"}, {"content", text}}; }
  static Record Assistant(const std::string& text) {
    return {{"role", "assistant"}, {"content", text}};
  }

  TempFolder folder;
  ChatRequest request;
  Progress silent;
  Session session{{.threads = 2}, Log(), silent};
};

TEST_F(ChatTest, AnswersAsFromNothingWhateverTheCacheHolds) {
  ChatSession chat(request, session);
  Record messages = Record::array();
  for (const char* text : {"The cat", "sat on the mat?", "No.", "Why"}) {
    messages.push_back(User(text));
    const std::string expected = Fresh(messages);

    const ChatAnswer answer = chat.Answer(text);

    EXPECT_EQ(answer.text, expected) << text;
    messages.push_back(Assistant(answer.text));
    EXPECT_EQ(chat.messages(), messages);
    EXPECT_LT(answer.read_tokens,
              messages.size() == 2 ? answer.prompt_tokens + 1 : answer.prompt_tokens);
  }
}

TEST_F(ChatTest, GivesTheTextInPieces) {
  ChatSession chat(request, session);
  std::string pieces;
  const ChatAnswer answer = chat.Answer("The cat", [&](const std::string& p) { pieces += p; });
  EXPECT_EQ(pieces, answer.text);
}

TEST_F(ChatTest, DrawsOtherwiseEachTurnAndTheSameForASeed) {
  request.sampling.temperature = 1.5;
  const auto talk = [&](std::uint64_t seed) {
    request.seed = seed;
    ChatSession chat(request, session);
    std::vector<std::string> answers;
    for (int i = 0; i < 3; ++i) {
      answers.push_back(chat.Answer("The cat").text);
      chat.Clear();
    }
    return answers;
  };
  const std::vector<std::string> first = talk(1);
  EXPECT_EQ(talk(1), first);
  EXPECT_NE(talk(2), first);
  EXPECT_NE(first[0], first[1]);
}

TEST_F(ChatTest, ForgetsAllButTheSystemsMessage) {
  request.system = "Be short.";
  ChatSession chat(request, session);
  const std::string answer = chat.Answer("The cat").text;
  (void)chat.Answer("sat");
  chat.Clear();
  ASSERT_EQ(chat.messages().size(), 1u);
  EXPECT_EQ(chat.messages()[0]["content"], "Be short.");
  EXPECT_EQ(chat.Answer("The cat").text, answer);
}

TEST_F(ChatTest, LeavesOutTheOldestTurnsWhereTheContextIsFull) {
  request.context = 160;
  request.system = "Be short.";
  ChatSession chat(request, session);
  Index left_out = 0;
  for (int i = 0; i < 8; ++i) {
    const ChatAnswer answer = chat.Answer("the cat sat on the mat " + std::to_string(i));
    EXPECT_LE(answer.prompt_tokens, 160 - 12);
    left_out += answer.left_out;
    EXPECT_EQ(chat.messages()[0]["role"], "system");
    EXPECT_EQ(chat.messages()[1]["role"], "user");
    // What is left is answered as if nothing else had ever been said.
    Record messages = chat.messages();
    messages.erase(messages.end() - 1);
    EXPECT_EQ(answer.text, Fresh(messages)) << i;
  }
  EXPECT_GT(left_out, 0);
  EXPECT_EQ(left_out % 2, 0);
}

TEST_F(ChatTest, RefusesAMessageThatHasNoRoomAndGoesOn) {
  request.context = 64;
  ChatSession chat(request, session);
  const std::string before = chat.Answer("The cat").text;
  const Record messages = chat.messages();
  EXPECT_THROW((void)chat.Answer(std::string(2000, 'x')), Error);
  EXPECT_EQ(chat.messages(), messages);
  EXPECT_NO_THROW((void)chat.Answer("sat"));
}

TEST_F(ChatTest, IsCutWhereTheContextEnds) {
  request.context = 48;
  request.new_tokens = 1000;
  ChatSession chat(request, session);
  const ChatAnswer answer = chat.Answer("The cat");
  ASSERT_EQ(answer.end, AnswerEnd::kContext);
  EXPECT_EQ(answer.prompt_tokens + answer.tokens, 48 + 1);
}

TEST_F(ChatTest, DrawsAsTheModelsFolderSays) {
  request.sampling = {};
  EXPECT_EQ(ChatSession(request, session).sampling().temperature, 0.7);
  EXPECT_EQ(ChatSession(request, session).sampling().top_p, 0.95);
  WriteText(folder / "model/generation_config.json",
            R"({"temperature": 0.6, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.1})");
  request.sampling.min_p = 0.2;
  const SamplingOptions sampling = ChatSession(request, session).sampling();
  EXPECT_EQ(sampling.temperature, 0.6);
  EXPECT_EQ(sampling.top_k, 20);
  EXPECT_EQ(sampling.top_p, 1);
  EXPECT_EQ(sampling.min_p, 0.2) << "what is said goes before the file";
  EXPECT_EQ(sampling.repetition_penalty, 1.1);
  WriteText(folder / "model/generation_config.json", R"({"do_sample": false, "top_p": 0.9})");
  EXPECT_EQ(ChatSession(request, session).sampling().temperature, 0);
  WriteText(folder / "model/generation_config.json", R"({"top_p": "much"})");
  EXPECT_THROW(ChatSession(request, session), Error);
}

TEST_F(ChatTest, StopsAndKeepsTheChat) {
  std::stop_source source;
  Session stopping({.threads = 2}, Log(), silent, source.get_token());
  ChatSession chat(request, stopping);
  (void)chat.Answer("The cat");
  const Record messages = chat.messages();
  EXPECT_THROW((void)chat.Answer("sat", [&](const std::string&) { source.request_stop(); }),
               Stopped);
  EXPECT_EQ(chat.messages(), messages);
}

}  // namespace
}  // namespace lieq
