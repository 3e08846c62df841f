// Text to token ids and back, with learned merges.
//
// A piece of text starts as one token a byte. Then, as long as some two neighbours are a merge, the
// merge learned first is applied where it occurs leftmost.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pair_map.hpp"
#include "piece_map.hpp"

namespace modelwright {

struct MergeRule {
  std::uint32_t left;
  std::uint32_t right;
  std::uint32_t merged;
};

using ByteIds = std::array<std::uint32_t, 256>;

// Calls from several threads are safe; they take turns.
class Encoder {
 public:
  // `tokens` are the bytes of each id, `byte_ids` the ids of the single bytes; `rules` are in the
  // order in which they were learned.
  Encoder(std::vector<std::string> tokens, const ByteIds& byte_ids,
          const std::vector<MergeRule>& rules);

  // Appends the ids of pieces from the boundary `from` on, to the first boundary at least `n_bytes`
  // further or to the end of the text. Returns that boundary. Id is uint16_t or uint32_t.
  template <class Id>
  std::size_t encode_some(std::string_view text, std::size_t from, std::size_t n_bytes,
                          std::vector<Id>& ids);

  // The bytes of `ids`, each of which is below n_tokens().
  template <class Id>
  std::string decode(std::span<const Id> ids) const;

  std::size_t n_tokens() const { return tokens_.size(); }

 private:
  using Rank = std::uint32_t;
  static constexpr Rank kNoMerge = PairMap::kAbsent;

  // Where the ids of a piece are in cached_ids_.
  struct CachedIds {
    std::size_t start = 0;
    std::uint32_t n_ids = 0;
  };

  Rank rank_of(std::uint32_t left, std::uint32_t right) const { return ranks_.find(left, right); }
  std::span<const std::uint32_t> encode_piece(std::string_view piece);
  std::span<const std::uint32_t> encode_cached(std::string_view piece);
  void merge_short();
  void merge_long();

  std::vector<std::string> tokens_;
  ByteIds byte_ids_;
  PairMap ranks_;                           // of the merges, lowest first learned
  std::vector<std::uint32_t> merged_ids_;  // by rank

  std::mutex mutex_;  // guards what follows
  PieceMap<CachedIds> cache_;
  std::vector<std::uint32_t> cached_ids_;
  std::vector<std::uint32_t> ids_;  // of the piece at hand
  std::vector<Rank> ranks_at_;      // of each id of ids_ with the next one
};

}  // namespace modelwright
