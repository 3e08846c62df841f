// Text to token ids. What a piece turned into is remembered, so common pieces cost one lookup.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "merge.hpp"
#include "piece_key.hpp"
#include "piece_map.hpp"
#include "split.hpp"

namespace modelwright {

// Ids that grow at the end, in memory that grows without being copied where the system allows it.
template <class Id>
class IdBuffer {
 public:
  IdBuffer() = default;
  IdBuffer(const IdBuffer&) = delete;
  IdBuffer& operator=(const IdBuffer&) = delete;
  ~IdBuffer() { std::free(data_); }

  Id* data() { return data_; }
  std::size_t size() const { return size_; }
  // Where the next id goes; there is room for `n` more.
  Id* room(std::size_t n);
  void end_at(const Id* end) { size_ = static_cast<std::size_t>(end - data_); }
  void push_back(Id id) {
    *room(1) = id;
    ++size_;
  }
  // Gives up the memory, which the taker frees; it holds at least one id.
  Id* release();

 private:
  Id* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

// Encodes for one thread at a time. Id is uint16_t where all ids fit, else uint32_t.
template <class Id>
class Encoder {
 public:
  Encoder(SplitRule rule, const MergeTable& table);

  const SplitRule& rule() const { return splitter_.rule(); }

  // Appends the ids of pieces from the boundary `from` on, until one ends after `settled` or about
  // `n_bytes` are done. Returns the boundary it came to.
  std::size_t encode_some(std::string_view text, std::size_t from, std::size_t n_bytes,
                          std::size_t settled, IdBuffer<Id>& ids);

  // Appends the ids of one piece that was cut elsewhere.
  void encode_piece(std::string_view piece, IdBuffer<Id>& ids);

 private:
  static constexpr std::size_t kIdsInSlot = 16 / sizeof(Id) - 1;
  static constexpr Id kElsewhere = 0;  // no piece has no ids
  static constexpr std::size_t kFirstSlots = std::size_t{1} << 10;
  static constexpr std::size_t kMostSlots = std::size_t{1} << 20;

  // A remembered piece: its ids are followed by their number, in the last place. Where they are too
  // many, that is kElsewhere and their place in long_ids_ and their number come first. A slot is at
  // its home or at the neighbour of that, in the same line of the processor's cache.
  struct alignas(32) Slot {
    PieceKey key;
    std::array<Id, kIdsInSlot + 1> ids;
  };
  static_assert(sizeof(Slot) == 32);

  struct SlotMemory {
    void operator()(Slot* slots) const { std::free(slots); }
  };
  using Slots = std::unique_ptr<Slot[], SlotMemory>;

  // Where the ids of a longer piece are in long_ids_.
  struct LongIds {
    std::uint32_t start = 0;
    std::uint32_t n_ids = 0;
  };

  static Slots empty_slots(std::size_t n_slots);
  void remember(const Slot& slot, std::size_t home);
  void grow();
  void encode_batch(const char* start, const std::uint32_t* bounds, std::size_t n_pieces,
                    const char* text_end, IdBuffer<Id>& ids);
  Id* encode_unknown(const PieceKey& key, std::size_t home, Id* out);
  Id* copy_from_elsewhere(const Slot& slot, Id* out) const;
  std::uint32_t keep_elsewhere(std::span<const std::uint32_t> ids);
  void forget_if_full();
  Id* encode_long(std::string_view piece, Id* out);

  Splitter splitter_;
  Merger merger_;
  Slots slots_;
  std::size_t n_slots_ = kFirstSlots;
  std::size_t n_remembered_ = 0;
  PieceMap<LongIds> long_;
  std::vector<Id> long_ids_;
};

}  // namespace modelwright
