#include "lieq/quantize/window_pieces.h"

#include <gtest/gtest.h>

#include <string>

namespace lieq {
namespace {

/// Sums whose value is the order in which they were added.
struct Order {
  std::string text;
  void Add(const Order& others) { text = "(" + text + "+" + others.text + ")"; }
};

/// The sums of a team's members, put together. Of no windows none.
std::string OrderOf(Index windows, Index pieces, Index members) {
  PieceSums<Order> all;
  for (Index member = 0; member < members; ++member) {
    PieceSums<Order> own;
    for (const WindowPiece& piece : PiecesOf(windows, pieces, member, members)) {
      std::optional<Order> sums;
      for (Index w = piece.begin; w < piece.end; ++w) {
        if (!sums) {
          sums = Order{std::to_string(w)};
        } else {
          sums->text += " " + std::to_string(w);
        }
      }
      own.Add(piece.number, std::move(sums));
    }
    all.Add(std::move(own));
  }
  const std::optional<Order> order = std::move(all).Take();
  return order ? order->text : "none";
}

TEST(WindowPieces, AreAddedAsInATournament) {
  EXPECT_EQ(OrderOf(8, 4, 1), "((0 1+2 3)+(4 5+6 7))");
  EXPECT_EQ(OrderOf(5, 1, 1), "0 1 2 3 4");
  EXPECT_EQ(OrderOf(0, 4, 2), "none");
  EXPECT_EQ(OrderOf(1, 8, 3), "0");
}

TEST(WindowPieces, AreAddedInOneOrderWhoeverHadThem) {
  for (const Index windows : {0, 1, 2, 3, 5, 7, 16, 127}) {
    for (const Index pieces : {1, 2, 4, 8, 16}) {
      const std::string expected = OrderOf(windows, pieces, 1);
      for (Index members = 2; members < 20; ++members) {
        EXPECT_EQ(OrderOf(windows, pieces, members), expected)
            << windows << " windows, " << pieces << " pieces, " << members << " members";
      }
    }
  }
}

TEST(WindowPieces, NeedNoMoreSumsAtOnceThanTheirRounds) {
  EXPECT_EQ(SumsAtOnce(1, 1), 1);
  EXPECT_EQ(SumsAtOnce(4, 1), 3);
  EXPECT_EQ(SumsAtOnce(4, 2), 2);
  EXPECT_EQ(SumsAtOnce(4, 3), 2);
  EXPECT_EQ(SumsAtOnce(4, 4), 1);
  EXPECT_EQ(SumsAtOnce(4, 9), 1);
}

TEST(WindowPieces, AreOfAboutOneSizeAndEachIsSomebodys) {
  for (const Index windows : {1, 3, 9, 112, 128}) {
    for (const Index members : {1, 2, 3, 4, 7}) {
      Index next_piece = 0, next_window = 0;
      for (Index member = 0; member < members; ++member) {
        for (const WindowPiece& piece : PiecesOf(windows, 4, member, members)) {
          EXPECT_EQ(piece.number, next_piece++);
          EXPECT_EQ(piece.begin, next_window);
          EXPECT_LE(piece.windows(), CeilDiv(windows, 4));
          EXPECT_GE(piece.windows(), windows / 4);
          next_window = piece.end;
        }
      }
      EXPECT_EQ(next_piece, 4);
      EXPECT_EQ(next_window, windows);
      EXPECT_GT(PiecesOf(windows, 4, 0, members).front().windows(), 0);
    }
  }
}

}  // namespace
}  // namespace lieq
