// Runs in parts: put together they are what one process computes, to the last bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/prose.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Without what is of the machine and the time.
Record Lasting(Record record) {
  if (record.is_array()) {
    for (Record& each : record) each = Lasting(each);
  }
  if (!record.is_object()) return record;
  for (const char* key : {"seconds", "peak_bytes"}) record.erase(key);
  for (auto& [key, value] : record.items()) {
    if (value.is_array() || value.is_object()) value = Lasting(value);
  }
  return record;
}

class PartsTest : public testing::Test {
 protected:
  PartsTest() {
    MakeTinyModel(folder / "model", {.layers = 3});
    MakeTinyModel(folder / "other", {.layers = 3, .seed = 9});
    WriteText(folder / "text.txt", Prose(1, 8000));
    WriteText(folder / "notes.txt", Prose(3, 1200));
    fs::create_directories(folder / "tasks/copa");
    std::string rows;
    for (int i = 0; i < 400; ++i) {
      rows += R"({"premise": "It rained )" + std::to_string(i) +
              R"(.", "choice1": "A wet day.", "choice2": "The sun.", "question": "effect",)" +
              R"( "label": )" + std::to_string(i % 2) + "}\n";
    }
    WriteText(folder / "tasks/copa/val.jsonl", rows);
  }

  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Lieq(std::vector<std::string> words) {
    words.emplace_back("-q");
    return RunLieq(folder.path(), words);
  }
  /// Output `whole` by one process, `parts` by three and a merge; their records are the same.
  void ExpectSame(const std::vector<std::string>& command, const std::string& file = "") {
    const auto with = [&](const std::vector<std::string>& more) {
      std::vector<std::string> words = command;
      words.insert(words.end(), more.begin(), more.end());
      return Lieq(words);
    };
    const Outcome whole = with({"-o", Path("whole"), "--json"});
    ASSERT_EQ(whole.exit, 0) << whole.err;
    std::vector<std::string> merge{"merge"};
    for (const char* part : {"3", "1", "2"}) {  // in any order, with any number of threads
      const Outcome made =
          with({"-o", Path("parts"), "--part", part + std::string("/3"), "--threads", part});
      ASSERT_EQ(made.exit, 0) << made.err;
      merge.push_back(Path("parts.part-") + part + "-of-3");
      EXPECT_TRUE(fs::exists(merge.back()));
    }
    EXPECT_FALSE(fs::exists(folder / "parts" / file)) << "before there is a result";
    merge.emplace_back("--json");
    const Outcome merged = Lieq(merge);
    ASSERT_EQ(merged.exit, 0) << merged.err;
    EXPECT_EQ(Lasting(ParseRecord(merged.out, "stdout")),
              Lasting(ParseRecord(whole.out, "stdout")));
    const auto read = [&](const std::string& output) {
      return Lasting(ReadRecord(file.empty() ? folder / output : folder / output / file));
    };
    EXPECT_EQ(read("parts"), read("whole"));
  }
  std::vector<std::string> Sensitivity(const std::string& name,
                                       const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"sensitivity",
                                   Path("model"),
                                   "-o",
                                   Path(name),
                                   "--calibration",
                                   Path("notes.txt"),
                                   "--samples",
                                   "2",
                                   "--context",
                                   "32",
                                   "--damage-windows",
                                   "2",
                                   "--damage-context",
                                   "32"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  TempFolder folder;
};

TEST_F(PartsTest, PerplexityOfSeveralModelsAndTheirDistance) {
  ExpectSame({"evaluate", Path("model"), Path("other"), "--text", Path("text.txt"), "--text",
              Path("notes.txt"), "--context", "64", "--reference", Path("other"), "--cache",
              Path("cache")});
}

TEST_F(PartsTest, PiecesAreMoreThanOne) {
  ASSERT_EQ(Lieq({"evaluate", Path("model"), "--text", Path("text.txt"), "--context", "64", "-o",
                  Path("e"), "--part", "1/1"})
                .exit,
            0);
  const Json part = ReadJson(folder / "e.part-1-of-1");
  const Json other_pieces = part["pieces"];
  EXPECT_GE(other_pieces.size(), 2u);
  for (const auto& [key, value] : other_pieces.items()) EXPECT_THAT(key, HasSubstr("windows "));
}

TEST_F(PartsTest, QuestionsOfTasks) {
  ExpectSame({"evaluate", Path("model"), "--tasks", "copa", "--task-data", Path("tasks")});
}

TEST_F(PartsTest, DamagesOfUnitsAndEnds) {
  std::vector<std::string> words = Sensitivity("unused", {"--method", "gptq"});
  words.erase(words.begin() + 2, words.begin() + 4);
  ExpectSame(words);
}

TEST_F(PartsTest, APartWithoutALayerMakesTheCodesOfItsEnds) {
  int without = 0;
  for (int part = 1; part <= 8; ++part) {
    fs::remove_all(folder / "s.codes");  // whoever comes first begins it
    const Outcome made =
        Lieq(Sensitivity("s", {"--method", "gptq", "--part", std::to_string(part) + "/8"}));
    ASSERT_EQ(made.exit, 0) << made.err;
    const Json file = ReadJson(folder / ("s.part-" + std::to_string(part) + "-of-8"));
    const Json pieces = file["pieces"];
    bool has_layers = false;
    for (const auto& [key, value] : pieces.items()) has_layers |= key.starts_with("layer ");
    if (has_layers || pieces.empty()) continue;
    ++without;
    EXPECT_TRUE(fs::exists(folder / "s.codes/settings.json"));
  }
  EXPECT_GT(without, 0) << "nothing is tested";
}

TEST_F(PartsTest, DamagesInAContext) {
  const Outcome planned = Lieq({"plan", Path("model"), "-o", Path("plan.json"), "--ranking",
                                "first", "--high-layers", "1", "--group-size", "32"});
  ASSERT_EQ(planned.exit, 0) << planned.err;
  std::vector<std::string> words =
      Sensitivity("unused", {"--method", "rtn", "--mode", "context", "--base", Path("plan.json"),
                             "--candidates", "w2g32,w4g32", "--group-size", "32"});
  words.erase(words.begin() + 2, words.begin() + 4);
  ExpectSame(words);
}

TEST_F(PartsTest, RowsOfStudies) {
  for (const std::string name : {"layers", "correlation", "activations", "backend"}) {
    SCOPED_TRACE(name);
    fs::remove_all(folder / "whole");
    fs::remove_all(folder / "parts");
    for (const char* part : {"1", "2", "3"}) {
      fs::remove(folder / ("parts.part-" + std::string(part) + "-of-3"));
    }
    ExpectSame({"study", name, Path("model"), "--texts", Path("text.txt"), "--calibration",
                Path("notes.txt"), "--windows", "2", "--lengths", "64", "--context", "64",
                "--samples", "4", "--group-size", "32", "--method", "rtn"},
               "study.json");
  }
}

TEST_F(PartsTest, StudiesAtTheSameTime) {
  const std::vector<std::string> words{"study",
                                       "layers",
                                       Path("model"),
                                       "--texts",
                                       Path("text.txt"),
                                       "--calibration",
                                       Path("notes.txt"),
                                       "--windows",
                                       "2",
                                       "--lengths",
                                       "64",
                                       "--context",
                                       "64",
                                       "--samples",
                                       "4",
                                       "--group-size",
                                       "32",
                                       "--method",
                                       "gptq",
                                       "--rankings",
                                       "compactness,perplexity-drop",
                                       "--threads",
                                       "1"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = words;
    all.insert(all.end(), more.begin(), more.end());
    return Lieq(all);
  };
  ASSERT_EQ(with({"-o", Path("whole")}).exit, 0);
  {
    std::vector<std::jthread> processes;
    for (const char* part : {"1/3", "2/3", "3/3"}) {
      processes.emplace_back([&, part] {
        const Outcome made = with({"-o", Path("parts"), "--part", part});
        EXPECT_EQ(made.exit, 0) << made.err;
      });
    }
  }
  const Outcome merged = Lieq(
      {"merge", Path("parts.part-1-of-3"), Path("parts.part-2-of-3"), Path("parts.part-3-of-3")});
  ASSERT_EQ(merged.exit, 0) << merged.err;
  EXPECT_EQ(Lasting(ReadRecord(folder / "parts/study.json")),
            Lasting(ReadRecord(folder / "whole/study.json")));
}

TEST_F(PartsTest, WhatAllPartsNeedIsTakenFromThoseThatHaveIt) {
  const auto part = [&](const std::string& which) {
    const Outcome made =
        Lieq({"study", "layers", Path("model"), "--texts", Path("text.txt"), "--calibration",
              Path("notes.txt"), "--windows", "2", "--lengths", "64", "--group-size", "32",
              "--method", "rtn", "-o", Path("s"), "--part", which});
    ASSERT_EQ(made.exit, 0) << made.err;
  };
  const auto spectra = [](const Json& file) {
    std::vector<std::string> values;
    for (const auto& [key, value] : file["pieces"].items()) {
      if (key.starts_with("spectra of layer 2")) values.push_back(value.dump());
    }
    return values;
  };
  part("1/2");  // nobody else is there: all of it
  const fs::path one = folder / "s.part-1-of-2", two = folder / "s.part-2-of-2";
  Json marked = ReadJson(one);
  ASSERT_EQ(spectra(marked).size(), 1u);
  for (auto& [key, value] : marked["pieces"].items()) {
    if (key.starts_with("spectra of layer 2")) value[0][0] = 0.125;
  }
  WriteText(one, marked.dump());
  part("2/2");
  EXPECT_EQ(spectra(ReadJson(two)), spectra(marked)) << "it computed what was there";

  // Of other settings, or damaged: as if it were not there.
  for (const bool damaged : {false, true}) {
    fs::remove(two);
    marked["settings"]["seed"] = "5";
    WriteText(one, damaged ? marked.dump().substr(0, 100) : marked.dump());
    part("2/2");
    ASSERT_EQ(spectra(ReadJson(two)).size(), 1u);
    EXPECT_NE(spectra(ReadJson(two)), spectra(marked));
  }
}

TEST_F(PartsTest, APartThatWasStoppedGoesOn) {
  const auto part = [&](const std::string& text) {
    return Lieq({"evaluate", Path("model"), "--text", Path(text), "--context", "64", "-o",
                 Path("e"), "--part", "1/1"});
  };
  ASSERT_EQ(part("text.txt").exit, 0);
  const fs::path file = folder / "e.part-1-of-1";
  const Json finished = ReadJson(file);
  Json begun = finished;
  begun["finished"] = false;
  begun["pieces"].erase(begun["pieces"].begin());
  // A piece that is there is not computed again, and what it holds is taken as it is.
  begun["pieces"].begin().value()[0][0] = 4.25;
  WriteText(file, begun.dump());

  EXPECT_THAT(Lieq({"merge", file.string()}).err, HasSubstr("part 1 of 1 is not finished"));
  ASSERT_EQ(part("text.txt").exit, 0);
  const Json again = ReadJson(file);
  EXPECT_EQ(again["pieces"].size(), finished["pieces"].size());
  int changed = 0;
  for (const auto& [key, value] : finished["pieces"].items()) {
    changed += again["pieces"][key] != value ? 1 : 0;
  }
  EXPECT_EQ(changed, 1);
  const Outcome other = part("notes.txt");
  EXPECT_EQ(other.exit, 3);
  EXPECT_THAT(other.err, HasSubstr("a part of another command is there already"));
}

TEST_F(PartsTest, WhatDoesNotBelongTogetherIsRefusedByName) {
  const auto make = [&](const std::string& which, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"--part", which});
    const Outcome made = Lieq(Sensitivity("s", more));
    ASSERT_EQ(made.exit, 0) << made.err;
  };
  make("1/2");
  make("2/2");
  const std::string one = Path("s.part-1-of-2"), two = Path("s.part-2-of-2");
  const auto refused = [&](const std::vector<std::string>& files) {
    std::vector<std::string> words{"merge"};
    words.insert(words.end(), files.begin(), files.end());
    const Outcome run = Lieq(words);
    EXPECT_EQ(run.exit, 3);
    EXPECT_FALSE(fs::exists(folder / "s"));
    return run.err;
  };
  EXPECT_THAT(refused({one}), HasSubstr("part 2 of 2 is missing"));
  EXPECT_THAT(refused({one, one, two}), HasSubstr("part 1 of 2 is there twice"));
  EXPECT_THAT(refused({one, Path("model/config.json")}), HasSubstr("not a part"));

  const auto changed = [&](const std::function<void(Json&)>& change) {
    Json json = ReadJson(two);
    change(json);
    WriteText(folder / "changed", json.dump());
    return refused({one, Path("changed")});
  };
  EXPECT_THAT(changed([](Json& part) { part["settings"]["model"] = "another"; }),
              HasSubstr("other settings: model"));
  EXPECT_THAT(changed([](Json& part) { part["words"].push_back("--seed=2"); }),
              HasSubstr("another command"));
  EXPECT_THAT(changed([](Json& part) { part["part"] = {2, 3}; }), HasSubstr("of 2"));
  EXPECT_THAT(changed([](Json& part) { part["pieces"].erase(part["pieces"].begin()); }),
              HasSubstr("no part holds a piece"));
  const std::string first = ReadJson(two)["pieces"].begin().key();
  EXPECT_THAT(changed([](Json& part) { part["pieces"].begin().value() = "x"; }), HasSubstr(first));
  WriteText(folder / "notes.txt", Prose(4, 1200));  // the text that both were made on
  EXPECT_THAT(refused({one, two}), HasSubstr("calibration"));
}

TEST_F(PartsTest, WrongNumbersAndPlaces) {
  for (const char* part : {"0/3", "4/3", "2", "2/", "/3", "a/b", "1/1000000000"}) {
    const Outcome run = Lieq(Sensitivity("s", {"--part", part}));
    EXPECT_EQ(run.exit, 2) << part;
    EXPECT_THAT(run.err, HasSubstr("--part"));
  }
  const Outcome nowhere =
      Lieq({"evaluate", Path("model"), "--text", Path("text.txt"), "--part", "1/2"});
  EXPECT_EQ(nowhere.exit, 2);
  EXPECT_THAT(nowhere.err, HasSubstr("-o"));
  WriteText(folder / "s.part-1-of-2", "mine");
  const Outcome taken = Lieq(Sensitivity("s", {"--part", "1/2"}));
  EXPECT_EQ(taken.exit, 3);
  EXPECT_EQ(ReadText(folder / "s.part-1-of-2"), "mine");
}

TEST_F(PartsTest, EvaluateWritesItsRecordsWhereItIsTold) {
  const std::vector<std::string> words{"evaluate",  Path("model"), "--text", Path("notes.txt"),
                                       "--context", "64",          "-o",     Path("e.json")};
  ASSERT_EQ(Lieq(words).exit, 0);
  EXPECT_EQ(ReadRecord(folder / "e.json")["kind"], "evaluation");
  EXPECT_EQ(Lieq(words).exit, 0) << "its own kind is replaced";
  WriteText(folder / "e.json", "mine");
  EXPECT_EQ(Lieq(words).exit, 3);
  EXPECT_EQ(ReadText(folder / "e.json"), "mine");
}

}  // namespace
}  // namespace lieq
