// Text in chunks, or in parts of a file, is counted and encoded as if it had come whole.

#include <unistd.h>

#include "../count.hpp"
#include "../encode.hpp"
#include "../feed.hpp"
#include "../range.hpp"
#include "fuzz.hpp"

using namespace modelwright;
using namespace modelwright::fuzz;

namespace {

using Ids = std::vector<std::uint32_t>;
using Counts = std::map<std::string, std::int64_t>;

struct CountingConsumer {
  PieceCounter& counter;
  std::size_t take(std::string_view text, std::size_t settled) {
    return counter.count_some(text, 0, text.size(), settled);
  }
  void take_special(const SpecialToken&) {}
};

struct EncodingConsumer {
  Encoder<std::uint16_t>& encoder;
  IdBuffer<std::uint16_t>& ids;
  std::size_t take(std::string_view text, std::size_t settled) {
    return encoder.encode_some(text, 0, text.size(), settled, ids);
  }
  void take_special(const SpecialToken& token) {
    ids.push_back(static_cast<std::uint16_t>(token.id));
  }
};

Counts counts_of(const PieceCounter& counter) {
  Counts counts;
  counter.for_each(
      [&](std::string_view piece, std::int64_t n) { counts[std::string(piece)] += n; });
  require(counts.size() == counter.n_distinct(), "each piece is counted in one place");
  return counts;
}

Ids ids_of(IdBuffer<std::uint16_t>& ids) { return Ids(ids.data(), ids.data() + ids.size()); }

// A special token, or what may stand beside one, for each byte.
std::string text_of_parts(std::string_view choices) {
  constexpr std::string_view kBetween[] = {"a", "b",  " ", "c",        "\n",
                                           "<", "  ", "A", "\xE4\xB8", "'s"};
  std::string text;
  for (const char choice : choices.substr(0, 150)) {
    const std::size_t part = static_cast<std::uint8_t>(choice) % 20;
    text += part < std::size(kBetween) ? kBetween[part]
                                       : kSpecials[part % std::size(kSpecials)];
  }
  return text;
}

int file_with(std::string_view text) {
  static std::FILE* const file = std::tmpfile();
  const int descriptor = fileno(file);
  require(ftruncate(descriptor, 0) == 0, "the file can be emptied");
  require(pwrite(descriptor, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()),
          "the file can be written");
  return descriptor;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  const SplitRule rule = rule_from(input);
  const std::vector<SpecialToken> special_list = specials_from(input);
  const SpecialTokens specials(special_list);
  const Vocabulary vocabulary(input);
  const auto part_bytes = input.ConsumeIntegralInRange<std::size_t>(1, 300);
  std::vector<std::size_t> chunk_sizes;
  for (auto n = input.ConsumeIntegralInRange<int>(1, 12); n > 0; --n) {
    chunk_sizes.push_back(input.ConsumeIntegral<std::uint8_t>());
  }
  if (std::ranges::max(chunk_sizes) == 0) chunk_sizes.push_back(1);
  const bool is_of_parts = input.ConsumeBool();
  std::string text = text_from(input, 1500);
  if (is_of_parts) text = text_of_parts(text);

  Ids ids;
  Counts counts;
  for (const auto& [special, part] : parts_slowly(text, special_list)) {
    if (special >= 0) {
      ids.push_back(static_cast<std::uint32_t>(special));
      continue;
    }
    std::size_t start = 0;
    for (const std::size_t end : ends_one_by_one(rule, part)) {
      const std::string piece = part.substr(start, end - start);
      ++counts[piece];
      const Ids merged = vocabulary.merge_slowly(piece);
      ids.insert(ids.end(), merged.begin(), merged.end());
      start = end;
    }
  }

  const MergeTable table(vocabulary.byte_ids, vocabulary.rules);
  PieceCounter counter(rule);
  Encoder<std::uint16_t> encoder(rule, table);
  IdBuffer<std::uint16_t> streamed;
  CountingConsumer counting{counter};
  EncodingConsumer encoding{encoder, streamed};
  Feed counting_feed(rule, specials), encoding_feed(rule, specials);
  for (std::size_t at = 0, i = 0; at < text.size(); ++i) {
    const std::size_t n = std::min(chunk_sizes[i % chunk_sizes.size()], text.size() - at);
    std::copy_n(text.data() + at, n, counting_feed.room(n));
    counting_feed.advance(n, false, counting);
    std::copy_n(text.data() + at, n, encoding_feed.room(n));
    encoding_feed.advance(n, false, encoding);
    at += n;
  }
  counting_feed.advance(0, true, counting);
  encoding_feed.advance(0, true, encoding);
  require(counts_of(counter) == counts, "chunks count like the whole");
  require(ids_of(streamed) == ids, "chunks have the ids of the whole");

  const int descriptor = file_with(text);
  PieceCounter first_half(rule), second_half(rule);
  IdBuffer<std::uint16_t> from_parts;
  EncodingConsumer parts_encoding{encoder, from_parts};
  bool is_first = true;
  for (std::uint64_t begin = 0; begin < text.size(); is_first = !is_first) {
    const auto wanted = std::min<std::uint64_t>(begin + part_bytes, text.size());
    const std::uint64_t end = next_cut(descriptor, wanted, rule, specials);
    require(end > begin && end <= text.size(), "a part has an end after its start");
    CountingConsumer consumer{is_first ? first_half : second_half};
    const std::uint64_t n = feed_range(descriptor, begin, end, rule, specials, consumer);
    require(n == end - begin, "a part is read whole");
    feed_range(descriptor, begin, end, rule, specials, parts_encoding);
    begin = end;
  }
  first_half.absorb(second_half);
  require(counts_of(first_half) == counts, "parts of a file count like the whole");
  require(ids_of(from_parts) == ids, "parts of a file have the ids of the whole");

  const std::int64_t least = 2;
  first_half.prune(least);
  std::erase_if(counts, [](const auto& entry) { return entry.second < least; });
  require(counts_of(first_half) == counts, "pruning takes the rare pieces and no others");
  return 0;
}
