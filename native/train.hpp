// Learns BPE merges from counted pieces: the commonest pair of neighbouring tokens becomes a token,
// again and again.
//
// Source: Sennrich, Haddow and Birch 2016, algorithm 1, over bytes.
//
// Only pairs that occur at least `floor_` times are kept at hand, with every place where they do: a
// pair's count never grows once the younger of its halves is there, so rarer ones cannot be next.
// When the common ones are used up, the floor sinks and the pairs are gathered anew from the tokens
// that are left, which are few by then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "count.hpp"
#include "pair_map.hpp"

namespace modelwright {

// Which of equally common pairs is merged.
enum class Ties : std::uint8_t {
  kGreatestBytes,  // the greatest pair of byte strings in lexicographic order, left before right
  kSmallestIds,    // the smallest pair of ids, left before right
  kSmallestSpelled,  // the same with the single bytes in the order of GPT-2's printable alphabet
};

struct Merge {
  std::uint32_t left;
  std::uint32_t right;
};

struct LearnerOptions {
  Ties ties = Ties::kGreatestBytes;
  std::int64_t min_frequency = 1;
  std::size_t max_token_length = SIZE_MAX;  // in bytes
};

// Ids 0 to 255 are the byte values; the first merge makes id 256, and so on.
class MergeLearner {
 public:
  // Takes the counted pieces over; the counter is empty afterwards.
  MergeLearner(PieceCounter& counter, const LearnerOptions& options);
  MergeLearner(const MergeLearner&) = delete;
  MergeLearner& operator=(const MergeLearner&) = delete;

  // Learns up to `n_merges` more and returns how many; fewer only when no pair is left that is
  // common enough and short enough.
  std::size_t learn(std::size_t n_merges);

  const std::vector<Merge>& merges() const { return merges_; }

 private:
  // A place in the pieces, which lie end to end with a border after each. A token stands at its
  // first and at its last byte, so that both of its neighbours find it.
  using Position = std::uint32_t;

  struct Pair {
    std::uint32_t left;
    std::uint32_t right;
    std::int64_t count;
    // Every place where the pair starts, in ascending order, and places where it did before a merge
    // took one of its halves.
    const Position* positions;
    std::uint32_t n_positions;
  };

  // Counts only fall, so a queued count is an upper bound.
  struct Candidate {
    std::int64_t count;
    std::uint32_t pair;
  };

  // What stands on one side of the places where a pair is merged, by token.
  struct Neighbour {
    std::int64_t count = 0;
    std::uint32_t n_positions = 0;
    Position* positions = nullptr;  // null if the new pair is too rare to keep
  };
  struct Sighting {
    std::uint32_t token;
    Position position;  // where the new pair starts
  };
  struct Side {
    std::vector<Neighbour> of_token;
    std::vector<std::uint32_t> tokens;  // those seen, in order of appearance
    std::vector<Sighting> sightings;

    void see(std::uint32_t token, Position position, std::int64_t count);
  };

  // A run of memory from which arrays are cut and which is given back as a whole.
  class Arena {
   public:
    Position* take(std::size_t n_positions);
    void clear();

   private:
    std::vector<std::unique_ptr<Position[]>> chunks_;
    Position* free_ = nullptr;
    std::size_t n_free_ = 0;
  };

  struct WordBlock {  // of 64 positions
    std::uint64_t starts = 0;
    std::uint32_t n_before = 0;
  };

  void lay_out(const PieceCounter& counter);
  std::int64_t word_count_at(Position position) const;
  bool is_worse(const Candidate& one, const Candidate& other) const;
  bool precedes(const Pair& one, const Pair& other) const;
  void gather();
  bool learn_one();
  void push(std::uint32_t pair);
  void merge_everywhere(const Pair& merged);
  void settle_side(Side& side, bool is_left, const Pair& merged, std::uint32_t token);
  void add_token(std::uint32_t left, std::uint32_t right);

  LearnerOptions options_;
  std::vector<Merge> merges_;
  std::vector<std::string> tokens_;        // the bytes of each id
  std::vector<std::uint64_t> prefixes_;    // the first eight bytes of each, to compare them quickly
  std::vector<std::uint32_t> n_bytes_;     // of each id

  std::vector<std::uint32_t> token_at_;
  std::vector<WordBlock> word_blocks_;
  std::vector<std::int64_t> word_counts_;

  std::int64_t floor_ = 0;
  std::vector<Pair> pairs_;
  PairMap pair_indices_;
  std::vector<Candidate> queue_;  // a heap
  Arena arena_;
  Side left_side_;
  Side right_side_;
};

}  // namespace modelwright
