// The editions of the vector loops agree; pieces cover the text and end where one at a time does;
// and what is called settled, or a sure cut, stays one whatever follows.

#include "../kernels.hpp"
#include "fuzz.hpp"

using namespace modelwright;
using namespace modelwright::fuzz;

namespace {

void check_editions(std::string_view text) {
#if defined(__x86_64__)
  const std::size_t n_blocks = text.size() / kBlockBytes;
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  std::vector<AsciiMasks> plain(n_blocks), other(n_blocks);
  kPortableKernels.classify(bytes, n_blocks, plain.data());
  // A row of numbers is a multiple of 16 of them.
  std::vector<std::uint32_t> numbers(text.size() / 64 * 16);
  if (!numbers.empty()) std::memcpy(numbers.data(), text.data(), numbers.size() * 4);
  const auto check = [&](const Kernels& kernels) {
    kernels.classify(bytes, n_blocks, other.data());
    require(n_blocks == 0 ||
                std::memcmp(plain.data(), other.data(), n_blocks * sizeof(AsciiMasks)) == 0,
            "the editions of classify agree");
    require(numbers.empty() || kPortableKernels.smallest(numbers.data(), numbers.size()) ==
                                   kernels.smallest(numbers.data(), numbers.size()),
            "the editions of smallest agree");
  };
  if (__builtin_cpu_supports("avx2")) check(kAvx2Kernels);
  if (__builtin_cpu_supports("avx512bw")) check(kAvx512Kernels);
#endif
}

void check_settled(const SplitRule& rule, const Text& start,
                   const std::vector<std::size_t>& whole) {
  const std::size_t settled = settled_bytes(rule, start.view());
  require(settled <= start.view().size(), "what is settled is there");
  std::vector<std::size_t> ends = ends_one_by_one(rule, start.view());
  const auto up_to = [settled](const std::vector<std::size_t>& all) {
    return std::vector(all.begin(), std::ranges::upper_bound(all, settled));
  };
  require(up_to(ends) == up_to(whole), "a settled end stays whatever follows");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  const SplitRule rule = rule_from(input);
  const auto cut = input.ConsumeIntegral<std::uint16_t>();
  const Text text(text_from(input));
  const std::string_view view = text.view();
  check_editions(view);

  const std::vector<std::size_t> slow = ends_one_by_one(rule, view);
  std::vector<std::size_t> fast;
  Splitter splitter(rule);
  for (std::size_t from = 0; from < view.size(); from = fast.back()) {
    const Splitter::Ends ends = splitter.next(view, from);
    require(ends.size > 0, "there is a next piece");
    for (std::size_t i = 0; i < ends.size; ++i) fast.push_back(from + ends.data[i]);
  }
  require(fast == slow, "pieces end where they do one at a time");

  for (std::size_t at = 1; at < view.size(); ++at) {
    if (!always_cut_between(rule, view[at - 1], view[at])) continue;
    require(std::ranges::binary_search(slow, at), "a sure cut is a cut");
  }
  check_settled(rule, Text(view.substr(0, cut % (view.size() + 1))), slow);
  return 0;
}
