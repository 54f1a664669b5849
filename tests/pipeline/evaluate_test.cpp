// Evaluating through the library, as a program of somebody else would.
#include "lieq/pipeline/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/hash.h"
#include "lieq/pipeline/evaluation_record.h"
#include "lieq/pipeline/requests.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

class EvaluateTest : public testing::Test {
 protected:
  EvaluateTest() {
    MakeTinyModel(folder / "model", {.layers = 2});
    MakeTinyModel(folder / "other", {.layers = 2, .seed = 2});
    std::string text;
    for (int i = 0; i < 200; ++i) text += "The cat number " + std::to_string(i) + " sat. ";
    WriteFileAtomically(folder / "text.txt", text);
    WriteFileAtomically(folder / "more.txt", "A dog. " + text);
    std::string rows;
    for (int i = 0; i < 6; ++i) {
      rows += R"({"q": "Two and )" + std::to_string(i) +
              R"( is", "c": ["one", "three", "no"], "a": )" + std::to_string(i % 3) + "}\n";
    }
    WriteFileAtomically(folder / "rows.jsonl", rows);
    request.models = {folder / "model"};
    request.texts = {folder / "text.txt"};
    request.context = 32;
    request.samples = 3;
  }

  void AddTask() {
    request.tasks = {ParseTask(
        R"({"name": "sums", "data": "rows.jsonl", "prompt": "{q}", "choices": "{c[]}",
            "answer": "{a}"})",
        "the test")};
    request.task_data = folder.path();
  }
  std::vector<ModelEvaluation> Run(const TextEvaluated& told = {}) {
    return Evaluate(request, session, told);
  }

  TempFolder folder;
  EvaluateRequest request;
  Progress silent;
  Session session{{.threads = 2, .cache = folder / "cache"}, Log(), silent};
};

TEST_F(EvaluateTest, GivesEachModelOnEachTextInOrder) {
  request.models = {folder / "model", folder / "other"};
  request.texts = {folder / "text.txt", folder / "more.txt"};
  std::vector<std::string> told;

  const std::vector<ModelEvaluation> models =
      Run([&](const ModelEvaluation& model, const TextEvaluation& text) {
        told.push_back(model.model.filename().string() + " " + text.text.filename().string());
      });

  EXPECT_THAT(told,
              ElementsAre("model text.txt", "model more.txt", "other text.txt", "other more.txt"));
  ASSERT_EQ(models.size(), 2u);
  for (const ModelEvaluation& model : models) {
    EXPECT_EQ(model.sizes.BitsPerWeight(), 16.0);
    for (const TextEvaluation& text : model.texts) {
      EXPECT_EQ(text.result.windows, 3);
      EXPECT_EQ(text.result.tokens_scored, 3 * 31);
      EXPECT_GT(text.result.perplexity, 1.0);
      EXPECT_FALSE(text.divergence);
    }
    EXPECT_THAT(model.tasks, IsEmpty());
  }
  EXPECT_NE(models[0].texts[0].result.mean_nll, models[1].texts[0].result.mean_nll);
}

TEST_F(EvaluateTest, KnowsNoSpreadOfOneWindow) {
  request.reference = folder / "other";
  for (const Index windows : {1, 2}) {
    request.samples = windows;
    const std::vector<Record> records = EvaluationRecords(request, Run(), session);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0]["standard_error"].is_null(), windows == 1);
    for (const char* key : {"ratio_error", "kl_error", "same_top_error", "top_5_overlap_error"}) {
      EXPECT_EQ(records[0]["reference"][key].is_null(), windows == 1) << key;
    }
    EXPECT_GT(records[0]["reference"]["mean_kl"], 0.0);
  }
}

TEST_F(EvaluateTest, HashesTheReferenceOnceForAllTexts) {
  request.models = {folder / "other"};
  request.texts = {folder / "text.txt", folder / "more.txt"};
  request.reference = folder / "model";
  const std::uint64_t before = HashedFileBytes();

  const ModelEvaluation model = Run().front();

  EXPECT_EQ(HashedFileBytes() - before, fs::file_size(folder / "model/model.safetensors") +
                                            fs::file_size(folder / "model/config.json"));
  for (const TextEvaluation& text : model.texts) {
    ASSERT_TRUE(text.divergence);
    EXPECT_GT(text.divergence->mean_kl, 0.0);
  }
}

TEST_F(EvaluateTest, KeepsWhatTheReferenceWasRunForInTheCacheOfTheSession) {
  request.reference = folder / "model";

  const double divergence = Run().front().texts.front().divergence->mean_kl;

  EXPECT_NEAR(divergence, 0.0, 1e-9);  // of a model from itself
  EXPECT_FALSE(fs::is_empty(folder / "cache"));
}

TEST_F(EvaluateTest, NeverKeepsItInAModel) {
  request.reference = folder / "model";
  Session other({.threads = 1, .cache = folder / "model"}, Log(), silent);

  EXPECT_THROW((void)Evaluate(request, other), Error);
}

TEST_F(EvaluateTest, MeasuresTasksAndComparesWithTheWholeModel) {
  AddTask();
  request.texts.clear();
  request.models = {folder / "model", folder / "other"};

  const std::vector<ModelEvaluation> models = Run();

  ASSERT_EQ(models[1].tasks.size(), 1u);
  EXPECT_EQ(models[1].tasks[0].items, 6);
  EXPECT_EQ(models[1].TaskAverage(), models[1].tasks[0].accuracy.mean);
  EXPECT_EQ(WholeModel(models), &models[0]);
  EXPECT_EQ(Flips(models[0], models[0]), 0.0);
  EXPECT_EQ(Flips(models[0], models[1]), Flips(models[1], models[0]));
}

TEST_F(EvaluateTest, ChecksAnswersOfTheModelAndTheReference) {
  request.texts.clear();
  request.models = {folder / "other", folder / "model"};
  request.reference = folder / "model";
  request.check_answers = 3;

  const std::vector<ModelEvaluation> models = Run();

  const AnswerCheck &check = models[0].answers.value(), &itself = models[1].answers.value();
  EXPECT_EQ(check.source, "bundled");
  EXPECT_FALSE(check.chat) << "the tiny model has no template";
  ASSERT_EQ(check.prompts.size(), 3u);
  EXPECT_EQ(check.prompts[0], BundledPrompts()[0]);
  EXPECT_EQ(itself.Counts().same, 3);
  EXPECT_EQ(itself.Counts().missed_end, 0);
  const Record record = EvaluationRecords(request, models, session).front();
  EXPECT_EQ(record["kind"], "answers");
  EXPECT_EQ(record["prompts"], 3);
  EXPECT_EQ(record["cut"], check.Counts().cut);
  EXPECT_EQ(record["reference"]["cut"], itself.Counts().cut);
  EXPECT_EQ(record["answers"][2]["text"], check.model.texts[2]);
  EXPECT_EQ(record["answers"][2]["reference"]["text"], itself.model.texts[2]);
}

TEST_F(EvaluateTest, AsksWhatChatsBeginWith) {
  WriteFileAtomically(
      folder / "model/tokenizer_config.json",
      R"({"chat_template": "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}{{ strftime_now('%Y') }}"})");
  const std::string said(400, 'a');
  std::string rows = R"([{"role": "assistant", "content": "Hello"}])"
                     "\n";
  for (const char* word : {"One", "Two", "Three"}) {
    rows += R"([{"role": "system", "content": "Be good."}, {"role": "user", "content": ")" +
            std::string(word) + R"("}, {"role": "assistant", "content": ")" + said +
            R"("}, {"role": "user", "content": "Go on"}])" + "\n";
  }
  WriteFileAtomically(folder / "chats.jsonl", rows);
  request.texts = {folder / "text.txt", folder / "chats.jsonl"};
  request.check_answers = 2;

  const AnswerCheck check = Run().front().answers.value();

  EXPECT_EQ(check.source, "chats.jsonl");
  EXPECT_TRUE(check.chat);
  EXPECT_FALSE(check.reference);
  EXPECT_THAT(check.prompts, ElementsAre("<system>Be good.\n<user>One\n<assistant>2025",
                                         "<system>Be good.\n<user>Two\n<assistant>2025"));
}

TEST_F(EvaluateTest, AsksNoChatThatTheTemplateRefuses) {
  WriteFileAtomically(
      folder / "model/tokenizer_config.json",
      R"({"chat_template": "{% for m in messages %}{% if m.role == 'system' %})"
      R"({{ raise_exception('no system') }}{% endif %}{{ m.content }}{% endfor %}"})");
  const std::string good = R"([{"role": "user", "content": "One"}])"
                           "\n";
  const std::string bad =
      R"([{"role": "system", "content": "x"}, {"role": "user", "content": "Two"}])"
      "\n";
  request.check_answers = 2;
  request.texts = {folder / "chats.jsonl"};
  request.context = 2;
  WriteFileAtomically(folder / "chats.jsonl", bad + good);

  EXPECT_THAT(Run().front().answers.value().prompts, ElementsAre("One"));
}

TEST_F(EvaluateTest, RecordsSayWhatWasMeasured) {
  AddTask();
  request.hashes_models = true;
  request.convention = &FindConvention("llama.cpp");

  const std::vector<ModelEvaluation> models = Run();
  const std::vector<Record> records = EvaluationRecords(request, models, session);

  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0]["kind"], "evaluation");
  EXPECT_EQ(records[0]["convention"], "llama.cpp");
  EXPECT_EQ(records[0]["perplexity"], models[0].texts[0].result.perplexity);
  EXPECT_EQ(records[0]["model_hash"].get<std::string>().size(), 32u);
  EXPECT_EQ(records[1]["kind"], "tasks");
  EXPECT_EQ(records[1]["average"], models[0].TaskAverage());
}

TEST_F(EvaluateTest, PredictionsAreALineForEachQuestionOfEachModel) {
  AddTask();
  request.models = {folder / "model", folder / "other"};

  WritePredictions(folder / "p.jsonl", Run());

  const std::string lines = ReadText(folder / "p.jsonl");
  EXPECT_EQ(std::ranges::count(lines, '\n'), 12);
}

TEST_F(EvaluateTest, WithoutTextsAndTasksThereIsNothingToDo) {
  request.texts.clear();

  EXPECT_THROW((void)Run(), UsageError);
}

TEST_F(EvaluateTest, DataOfTasksAreReadBeforeAnyModel) {
  AddTask();
  request.task_data = folder / "nowhere";
  request.models = {folder / "no model"};

  EXPECT_THAT(ErrorOf([&] { return Run(); }), testing::HasSubstr("nowhere"));
}

}  // namespace
}  // namespace lieq
