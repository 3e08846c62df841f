// Learns BPE merges from text, in two stages: count the distinct pieces, then merge the commonest
// pair of neighbouring tokens inside them, again and again.
//
// Source: Sennrich, Haddow and Birch 2016, algorithm 1, over bytes. Of pairs equally common the one
// whose two byte strings are greatest in lexicographic order, left before right, is merged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "pair_map.hpp"
#include "piece_map.hpp"

namespace modelwright {

// How often each distinct piece occurs. Memory grows with the distinct pieces, not with the text.
class PieceCounter {
 public:
  // Counts pieces from the boundary `from` on, to the first boundary at least `n_bytes` further or
  // to the end of the text. Returns that boundary.
  std::size_t count_some(std::string_view text, std::size_t from, std::size_t n_bytes);

  std::size_t n_distinct() const { return counts_.size(); }
  std::string_view piece(std::size_t index) const { return counts_.piece(index); }
  std::int64_t count(std::size_t index) const { return counts_.value(index); }

 private:
  PieceMap<std::int64_t> counts_;
};

struct Merge {
  std::uint32_t left;
  std::uint32_t right;
};

// Ids 0 to 255 are the byte values; the first merge makes id 256, and so on.
class MergeLearner {
 public:
  explicit MergeLearner(const PieceCounter& counter);
  MergeLearner(const MergeLearner&) = delete;  // the queue's comparison refers to this object
  MergeLearner& operator=(const MergeLearner&) = delete;

  // Learns up to `n_merges` more and returns how many; fewer only when no neighbours are left.
  std::size_t learn(std::size_t n_merges);

  const std::vector<Merge>& merges() const { return merges_; }

 private:
  // A place in the concatenated pieces. Merging links tokens within a piece, never across two.
  using Position = std::uint32_t;

  struct Pair {
    std::uint32_t left;
    std::uint32_t right;
    std::int64_t count;
    // Every place where the pair starts, and places where it did before a merge took one of its
    // halves. A place never returns to an earlier pair, since tokens only grow, so none is listed
    // twice. They ascend: a pair appears with its younger half, in one pass from left to right.
    std::vector<Position> positions;
  };

  // Counts of pairs already queued only fall, so a queued count is an upper bound.
  struct Candidate {
    std::int64_t count;
    std::uint32_t pair;
  };
  struct IsWorse {
    const MergeLearner* learner;
    bool operator()(const Candidate& one, const Candidate& other) const;
  };

  void lay_out(const PieceCounter& counter);
  bool learn_one();
  void merge_everywhere(std::uint32_t pair);
  void merge_at(Position position, const Pair& merged);
  void remove_occurrence(std::uint32_t left, std::uint32_t right, std::int64_t count);
  void add_occurrence(std::uint32_t left, std::uint32_t right, std::int64_t count,
                      Position position);
  void queue_new_pairs();

  std::vector<std::string> tokens_;  // the bytes of each id
  std::vector<Merge> merges_;

  // One entry a position.
  std::vector<std::uint32_t> token_at_;
  std::vector<Position> previous_;
  std::vector<Position> next_;
  std::vector<std::uint32_t> piece_at_;
  std::vector<std::int64_t> piece_counts_;

  std::vector<Pair> pairs_;
  PairMap pair_indices_;
  std::size_t n_queued_pairs_ = 0;  // pairs_ from here on are new and not in the queue yet
  std::priority_queue<Candidate, std::vector<Candidate>, IsWorse> queue_;
};

}  // namespace modelwright
